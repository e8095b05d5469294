package spec

import (
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/vitrine-runtime/vitrine/pod"
)

// annotations are what external runtimes need to know of the pod, under the names
// that they read, and those of the request that the administrator lists. Nothing
// of the image.
func (b *builder) annotations() error {
	a := map[string]string{}
	for _, source := range []map[string]string{b.Sandbox.GetAnnotations(), b.Container.GetAnnotations()} {
		for key, value := range source {
			if annotationAllowed(b.Defaults.Annotations, key) {
				a[key] = value
			}
		}
	}
	meta := b.Sandbox.GetMetadata()
	maps.Copy(a, map[string]string{
		"io.kubernetes.cri.container-type":    "container",
		"io.kubernetes.cri.container-name":    b.Container.GetMetadata().GetName(),
		"io.kubernetes.cri.image-name":        b.Container.GetImage().GetUserSpecifiedImage(),
		"io.kubernetes.cri.sandbox-id":        string(b.SandboxID),
		"io.kubernetes.cri.sandbox-name":      meta.GetName(),
		"io.kubernetes.cri.sandbox-namespace": meta.GetNamespace(),
		"io.kubernetes.cri.sandbox-uid":       meta.GetUid(),
	})
	maps.DeleteFunc(a, func(_, value string) bool { return value == "" })
	b.spec.Annotations = a
	return nil
}

// systemdProperties is the prefix by which OCI runtimes take properties of the
// container's systemd unit, commands to execute among them (CVE-2024-3154).
const systemdProperties = "org.systemd.property."

// settings are what annotations can change of an O, by the name behind their prefix.
type settings[O any] map[string]func(*O, string) error

// lay puts the annotations that allowed names (see Defaults.Annotations) over o: those
// whose key ends in a slash and the container's name before the pod's, and of each the
// last source's. A value that cannot be is ErrInvalid, naming the annotation.
func (s settings[O]) lay(o *O, prefix string, allowed []string, container string, sources []map[string]string) error {
	for _, suffix := range []string{"", "/" + container} {
		for _, source := range sources {
			for name, set := range s {
				key := prefix + name
				value, given := source[key+suffix]
				if !given || !annotationAllowed(allowed, key) && !annotationAllowed(allowed, key+suffix) {
					continue
				}
				if err := set(o, value); err != nil {
					return fmt.Errorf("%w: annotation %s%s: %w", pod.ErrInvalid, key, suffix, err)
				}
			}
		}
	}
	return nil
}

// annotationAllowed matches a key against patterns. Keys that reach into systemd
// have to be listed letter by letter.
func annotationAllowed(patterns []string, key string) bool {
	for _, p := range patterns {
		if p == key {
			return true
		}
		if ok, err := path.Match(p, key); err == nil && ok && !strings.HasPrefix(key, systemdProperties) {
			return true
		}
	}
	return false
}
