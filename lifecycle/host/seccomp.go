package host

import (
	"fmt"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

// LocalhostSeccomp reads the profile file that the request names, nil when it names none. A file
// that cannot be read, is larger than 4 MiB or is no profile is pod.ErrInvalid.
func LocalhostSeccomp(config *runtime.ContainerConfig) (*spec.Profile, error) {
	path, err := spec.LocalhostSeccomp(config)
	if path == "" || err != nil {
		return nil, err
	}
	return readSeccomp(path)
}

// maxProfile bounds a seccomp profile file, in bytes.
const maxProfile = 4 << 20

func readSeccomp(path string) (*spec.Profile, error) {
	raw, err := ReadBounded(path, maxProfile)
	if err != nil {
		return nil, fmt.Errorf("%w: seccomp profile %q: %w", pod.ErrInvalid, path, RootCause(err))
	}
	profile, err := spec.ParseProfile(raw)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile %q: %w", path, err)
	}
	return profile, nil
}
