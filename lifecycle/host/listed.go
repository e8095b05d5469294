package host

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
)

// defaultMounts parses HOSTPATH:CONTAINERPATH[:ro|rw]. A host path must exist, for all
// containers would fail without it.
func defaultMounts(list []string) (mounts []specs.Mount, err error) {
	for _, text := range list {
		source, rest, _ := strings.Cut(text, ":")
		target, access, given := strings.Cut(rest, ":")
		if !given {
			access = "ro"
		}
		if !path.IsAbs(source) || !path.IsAbs(target) || path.Clean(target) == "/" || access != "ro" && access != "rw" {
			return nil, fmt.Errorf("%q is not HOSTPATH:CONTAINERPATH, with :ro or :rw behind", text)
		}
		if source, err = filepath.EvalSymlinks(source); err != nil {
			return nil, fmt.Errorf("%q: %w", text, RootCause(err))
		}
		mounts = append(mounts, specs.Mount{
			Destination: path.Clean(target), Type: "bind", Source: source, Options: []string{"rbind", "rprivate", "nosuid", "nodev", access},
		})
	}
	return mounts, nil
}

// defaultDevices parses HOSTPATH[:CONTAINERPATH[:ACCESS]] and looks the devices up. They
// are checked as a request's are.
func defaultDevices(list []string) ([]spec.Device, error) {
	var devices []*runtime.Device
	for _, text := range list {
		source, rest, _ := strings.Cut(text, ":")
		target, access, _ := strings.Cut(rest, ":")
		target = cmp.Or(target, source)
		if !path.IsAbs(source) || !path.IsAbs(target) || strings.Trim(access, "rwm") != "" || strings.ContainsFunc(access, func(r rune) bool { return strings.Count(access, string(r)) > 1 }) {
			return nil, fmt.Errorf("%q is not HOSTPATH:CONTAINERPATH:ACCESS", text)
		}
		devices = append(devices, &runtime.Device{HostPath: source, ContainerPath: target, Permissions: access})
	}
	return Devices(devices)
}
