package host

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestDirectoryStandsForTheDevicesBelowIt(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "cards/below"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cards/a", "cards/below/b"} {
		if err := unix.Mknod(filepath.Join(dir, name), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); errors.Is(err, unix.EPERM) {
			t.Skip("making a device node needs CAP_MKNOD in the first user namespace")
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "cards/readme"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(host, shown string) ([]string, error) {
		found, err := Devices([]*runtime.Device{{HostPath: host, ContainerPath: shown, Permissions: "r"}})
		var paths []string
		for _, d := range found {
			paths = append(paths, d.Path+" "+d.Type+" "+d.Access)
		}
		return paths, err
	}
	if got, err := ask(filepath.Join(dir, "cards"), "/dev/cards"); err != nil || len(got) != 2 || got[0] != "/dev/cards/a c r" || got[1] != "/dev/cards/below/b c r" {
		t.Errorf("a directory: %q, %v", got, err)
	}
	if got, err := ask(filepath.Join(dir, "cards/a"), ""); err != nil || len(got) != 1 || got[0] != filepath.Join(dir, "cards/a")+" c r" {
		t.Errorf("a device: %q, %v", got, err)
	}
	for _, none := range []string{filepath.Join(dir, "cards/readme"), t.TempDir(), "/no/such"} {
		if _, err := ask(none, "/dev/x"); !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("%s: %v", none, err)
		}
	}
}
