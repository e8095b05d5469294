// Package cdi turns names of devices into edits of an OCI specification, as the
// Container Device Interface says (https://github.com/cncf-tags/container-device-interface).
// It owns which names a request asks for and how they are resolved; what a device
// brings (nodes, mounts, environment, hooks) stands in the specification files of
// its vendor, which only the host's administrator can write.
//
// The files are read when a container asks for a device and not before: a container
// without devices costs nothing, and a file that appeared a moment ago counts.
package cdi

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
	library "tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"

	"github.com/vitrine-runtime/vitrine/pod"
)

// DefaultSpecDirs are where specification files are looked for, the last one winning.
var DefaultSpecDirs = []string{"/etc/cdi", "/var/run/cdi"}

// maxDevices bounds what one request may name: a pod has few devices, and each name
// is looked up and repeated in errors.
const maxDevices = 256

// Requested returns the fully qualified names that a container's request asks for,
// each once: those of CDI_devices in their order, then those of its annotations
// cdi.k8s.io/…, in the order of their keys. The annotations are the container's own,
// which kubelet fills from device plugins and in which no pod's author has a say;
// those of pods, images and checkpoints never choose a device (CVE-2026-53492). A
// name that is not VENDOR/CLASS=NAME is pod.ErrInvalid.
func Requested(config *runtime.ContainerConfig) ([]string, error) {
	var names []string
	add := func(where, name string) error {
		if !parser.IsQualifiedName(name) {
			return fmt.Errorf("%w: %s: %.200q is not of the form vendor/class=name", pod.ErrInvalid, where, name)
		}
		if slices.Contains(names, name) {
			return nil
		}
		if len(names) == maxDevices {
			return fmt.Errorf("%w: %s: more than %d devices", pod.ErrInvalid, where, maxDevices)
		}
		names = append(names, name)
		return nil
	}
	for _, d := range config.GetCDIDevices() {
		if err := add("CDI_devices", d.GetName()); err != nil {
			return nil, err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(config.GetAnnotations())) {
		if !strings.HasPrefix(key, library.AnnotationPrefix) {
			continue
		}
		for name := range strings.SplitSeq(config.GetAnnotations()[key], ",") {
			if err := add("annotation "+key, name); err != nil {
				return nil, err
			}
		}
	}
	return names, nil
}

// Inject edits the specification for the named devices. no dirs means
// DefaultSpecDirs. A device that no file declares, that two files of one directory
// declare, or whose node is not on the host is pod.ErrUnavailable: its driver may
// write the file later. The specification is spoilt by an error and must not be used.
func Inject(s *specs.Spec, dirs, names []string) error {
	if len(names) == 0 {
		return nil
	}
	if len(dirs) == 0 {
		dirs = DefaultSpecDirs
	}
	cache, err := library.NewCache(library.WithSpecDirs(dirs...), library.WithAutoRefresh(false))
	if err != nil {
		return fmt.Errorf("read CDI specifications: %w", err)
	}
	unresolved, err := cache.InjectDevices(s, names...)
	if len(unresolved) > 0 {
		return fmt.Errorf("%w: CDI device %s is not declared in %s%s", pod.ErrUnavailable,
			strings.Join(unresolved, ", "), strings.Join(dirs, ", "), complaints(cache))
	}
	if err != nil {
		return fmt.Errorf("%w: CDI device %s: %w", pod.ErrUnavailable, strings.Join(names, ", "), err)
	}
	return nil
}

// maxComplaints bounds how many unusable files an error names.
const maxComplaints = 4

// complaints are what is wrong with files that might have declared the device.
func complaints(cache *library.Cache) string {
	byFile := cache.GetErrors()
	var text strings.Builder
	for i, file := range slices.Sorted(maps.Keys(byFile)) {
		if i == maxComplaints {
			fmt.Fprintf(&text, "; and %d more files are not usable", len(byFile)-i)
			break
		}
		fmt.Fprintf(&text, "; %s is not usable: %v", file, byFile[file][0])
	}
	return text.String()
}
