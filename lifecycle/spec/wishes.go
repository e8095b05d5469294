package spec

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Wishes are what CRI has no field for and a pod may ask for by annotation, as users of
// CRI-O do. The zero value asks for nothing.
type Wishes struct {
	// Devices are host devices beside those of the request.
	Devices []*runtime.Device
	// ShmSize is the size of the pod's /dev/shm in bytes; 0: not said.
	ShmSize int64
	// Umask is that of the container's processes, exec sessions included; nil: not said.
	Umask *uint32
}

// maxWishedDevices bounds the devices of one annotation.
const maxWishedDevices = 64

// wishKeys are the names of each annotation, CRI-O's older one first. Behind a slash and a
// container's name they are about that container alone, but for the size, which is the pod's.
//
//	io.kubernetes.cri-o.Devices: /dev/fuse,/dev/net/tun:/dev/net/tun:rw
//	io.kubernetes.cri-o.ShmSize: 128Mi
//	umask.crio.io/app: "0077"
var wishKeys = [][]string{
	{"io.kubernetes.cri-o.Devices", "io.kubernetes.cri-o.ShmSize", "io.kubernetes.cri-o.umask"},
	{"devices.crio.io", "shm-size.crio.io", "umask.crio.io"},
}

// Wish reads the annotations that allowed names (see Defaults.Annotations); newer names go
// before older ones, the container's own before the pod's. devices are the host's devices
// that may be asked for. A value that cannot be, or may not be, is ErrInvalid, naming the
// annotation.
func Wish(allowed, devices []string, container string, sources ...map[string]string) (w Wishes, err error) {
	for _, keys := range wishKeys {
		s := settings[Wishes]{
			keys[0]: func(w *Wishes, v string) (err error) { w.Devices, err = wishedDevices(v, devices); return err },
			keys[1]: func(w *Wishes, v string) (err error) { w.ShmSize, err = wishedSize(v); return err },
			keys[2]: func(w *Wishes, v string) (err error) { w.Umask, err = umask(v); return err },
		}
		if err := s.lay(&w, "", allowed, container, sources); err != nil {
			return Wishes{}, err
		}
	}
	return w, nil
}

// wishedDevices reads HOSTPATH[:CONTAINERPATH[:ACCESS]], separated by commas.
func wishedDevices(text string, allowed []string) (list []*runtime.Device, err error) {
	for _, one := range strings.Split(text, ",") {
		source, rest, _ := strings.Cut(strings.TrimSpace(one), ":")
		target, access, _ := strings.Cut(rest, ":")
		if target == "" {
			target = source
		}
		if access == "" {
			access = "rwm"
		}
		if !path.IsAbs(source) || !path.IsAbs(target) {
			return nil, fmt.Errorf("%.200q is not HOSTPATH:CONTAINERPATH:ACCESS", one)
		}
		if err := checkDeviceAccess(source, access); err != nil {
			return nil, err
		}
		if source = path.Clean(source); !slices.Contains(allowed, source) { // what is looked at is what is opened
			return nil, fmt.Errorf("%.200q is not among runtime.allowed_devices", source)
		}
		if list = append(list, &runtime.Device{HostPath: source, ContainerPath: target, Permissions: access}); len(list) > maxWishedDevices {
			return nil, fmt.Errorf("more than %d devices", maxWishedDevices)
		}
	}
	return list, nil
}

func wishedSize(text string) (int64, error) {
	n, err := quantity(text)
	if err == nil && n == 0 {
		err = fmt.Errorf("a size of 0 would be none")
	}
	return n, err
}

// umask reads one to four octal digits, no bits but those of permissions.
func umask(text string) (*uint32, error) {
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n > 0o777 || len(text) > 4 {
		return nil, fmt.Errorf("%.20q is no octal number from 0 to 0777", text)
	}
	mask := uint32(n)
	return &mask, nil
}

// CheckWishable refuses what cannot be a list of devices to be asked for.
func CheckWishable(devices []string) error {
	for _, d := range devices {
		if !path.IsAbs(d) || path.Clean(d) != d || !strings.HasPrefix(d, "/dev/") {
			return fmt.Errorf("%w: %q is not a clean path below /dev", pod.ErrInvalid, d)
		}
	}
	return nil
}
