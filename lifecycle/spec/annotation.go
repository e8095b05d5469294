package spec

import (
	"maps"
	"path"
	"strings"
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
