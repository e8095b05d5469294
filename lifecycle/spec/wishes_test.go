package spec

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestWishesAreReadFromAllowedAnnotationsAlone(t *testing.T) {
	mask := func(n uint32) *uint32 { return &n }
	fuse := &runtime.Device{HostPath: "/dev/fuse", ContainerPath: "/dev/fuse", Permissions: "rwm"}
	all := []string{"io.kubernetes.cri-o.*", "*.crio.io"}
	for name, tc := range map[string]struct {
		allowed        []string
		pod, container map[string]string
		want           Wishes
		wrong          string
	}{
		"nothing": {allowed: all},
		"not allowed": {allowed: []string{"io.kubernetes.cri-o.ShmSizes"}, pod: map[string]string{
			"io.kubernetes.cri-o.Devices": "/dev/fuse", "io.kubernetes.cri-o.ShmSize": "1Gi", "umask.crio.io": "0"}},
		"older names": {allowed: all, pod: map[string]string{
			"io.kubernetes.cri-o.Devices": "/dev/fuse", "io.kubernetes.cri-o.ShmSize": "1Mi", "io.kubernetes.cri-o.umask": "077"},
			want: Wishes{Devices: []*runtime.Device{fuse}, ShmSize: 1 << 20, Umask: mask(0o77)}},
		"newer names go first": {allowed: all, pod: map[string]string{
			"io.kubernetes.cri-o.ShmSize": "1Mi", "shm-size.crio.io": "2Mi", "io.kubernetes.cri-o.umask": "0", "umask.crio.io": "0002"},
			want: Wishes{ShmSize: 2 << 20, Umask: mask(2)}},
		"one container's go first": {allowed: all, pod: map[string]string{"umask.crio.io/app": "7", "umask.crio.io": "2", "umask.crio.io/other": "3"},
			want: Wishes{Umask: mask(7)}},
		"a container's own go before the pod's": {allowed: all, pod: map[string]string{"umask.crio.io": "2"}, container: map[string]string{"umask.crio.io": "1"},
			want: Wishes{Umask: mask(1)}},
		"devices": {allowed: all, pod: map[string]string{"devices.crio.io": "/dev/fuse, /dev/net/tun:/dev/t:r"},
			want: Wishes{Devices: []*runtime.Device{fuse, {HostPath: "/dev/net/tun", ContainerPath: "/dev/t", Permissions: "r"}}}},
		"a device that is not offered":    {allowed: all, pod: map[string]string{"devices.crio.io": "/dev/fuse,/dev/sda"}, wrong: "/dev/sda"},
		"a device by another path":        {allowed: all, pod: map[string]string{"devices.crio.io": "/dev/fuse/../sda"}, wrong: "allowed_devices"},
		"a relative device":               {allowed: all, pod: map[string]string{"devices.crio.io": "fuse"}, wrong: "HOSTPATH"},
		"no device":                       {allowed: all, pod: map[string]string{"devices.crio.io": ""}, wrong: "HOSTPATH"},
		"a device of unknown access":      {allowed: all, pod: map[string]string{"devices.crio.io": "/dev/fuse:/dev/fuse:rx"}, wrong: "r, w and m"},
		"more devices than are looked at": {allowed: all, pod: map[string]string{"devices.crio.io": strings.Repeat("/dev/fuse,", maxWishedDevices) + "/dev/fuse"}, wrong: "more than 64"},
		"no size":                         {allowed: all, pod: map[string]string{"shm-size.crio.io": "much"}, wrong: "shm-size.crio.io"},
		"a size below 0":                  {allowed: all, pod: map[string]string{"shm-size.crio.io": "-1"}, wrong: "number of bytes"},
		"a size of 0":                     {allowed: all, pod: map[string]string{"shm-size.crio.io": "0"}, wrong: "size of 0"},
		"a umask that is not octal":       {allowed: all, pod: map[string]string{"umask.crio.io": "089"}, wrong: "umask.crio.io"},
		"a umask with a sticky bit":       {allowed: all, pod: map[string]string{"umask.crio.io": "1777"}, wrong: "octal"},
	} {
		got, err := Wish(tc.allowed, []string{"/dev/fuse", "/dev/net/tun"}, "app", tc.pod, tc.container)
		if tc.wrong != "" {
			if !errors.Is(err, pod.ErrInvalid) || !strings.Contains(err.Error(), tc.wrong) || !strings.Contains(err.Error(), "annotation ") {
				t.Errorf("%s: %v, want %v with the annotation and %q", name, err, pod.ErrInvalid, tc.wrong)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, tc.want)
		}
	}
}

func TestOnlyPathsOfDevicesCanBeOffered(t *testing.T) {
	for _, d := range []string{"", "dev/fuse", "/dev", "/etc/passwd", "/dev/../etc/passwd", "/dev/fuse/"} {
		if err := CheckWishable([]string{"/dev/fuse", d}); !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("%q: %v", d, err)
		}
	}
}
