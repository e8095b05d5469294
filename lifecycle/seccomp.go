package lifecycle

import (
	"fmt"
	"io"
	"os"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

// localhostSeccomp reads the profile file that the request names, nil when it names none.
func localhostSeccomp(config *runtime.ContainerConfig) (*spec.Profile, error) {
	path, err := spec.LocalhostSeccomp(config)
	if path == "" || err != nil {
		return nil, err
	}
	return readSeccomp(path)
}

// maxProfile bounds a seccomp profile file, in bytes.
const maxProfile = 4 << 20

func readSeccomp(path string) (*spec.Profile, error) {
	raw, err := readBounded(path, maxProfile)
	if err != nil {
		return nil, fmt.Errorf("%w: seccomp profile %q: %w", pod.ErrInvalid, path, rootCause(err))
	}
	profile, err := spec.ParseProfile(raw)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile %q: %w", path, err)
	}
	return profile, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return raw, err
}
