package image

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"go.podman.io/image/v5/signature"

	"github.com/vitrine-runtime/vitrine/pod"
)

// policy reads the signature policy for pods of a namespace. It is read anew for
// every pull, so that an edit needs no reload. The built-in default, used only when
// no path was configured and /etc/containers/policy.json is absent, accepts every image.
func (s *Store) policy(namespace string) (*signature.Policy, error) {
	if dir := s.config.SignaturePolicyDir; dir != "" && namespace != "" && !strings.ContainsAny(namespace, "/\x00") {
		policy, err := signature.NewPolicyFromFile(filepath.Join(dir, namespace+".json"))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return policy, wrapPolicy(err)
		}
	}
	path := s.config.SignaturePolicy
	if path == "" || path == defaultPolicy {
		policy, err := signature.NewPolicyFromFile(defaultPolicy)
		if errors.Is(err, fs.ErrNotExist) {
			return &signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}}, nil
		}
		return policy, wrapPolicy(err)
	}
	policy, err := signature.NewPolicyFromFile(path)
	return policy, wrapPolicy(err)
}

func wrapPolicy(err error) error {
	if err != nil {
		return fmt.Errorf("%w: read signature policy: %w", pod.ErrInvalid, err)
	}
	return nil
}
