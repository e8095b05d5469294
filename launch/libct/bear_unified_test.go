package libct_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// The same on cgroup v2, which a host with cgroup v1 shows to a mount namespace of the test's own. It
// has no controllers there, so no limits: the device program and the births into the
// cgroup are what is different.
func TestBornContainerIsLibcontainersOnUnified(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces, mounts, cgroups")
	}
	if !cgroups.IsCgroup2UnifiedMode() {
		c := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
			`umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$0" -test.v -test.run='^'"$1"'$'`, os.Args[0], t.Name())
		out, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	for name, change := range map[string]func(*box){
		"ordinary":       nil,
		"filter":         func(b *box) { b.spec.Linux.Seccomp = ordinaryProfile(t) },
		"host's cgroups": func(b *box) { withoutNamespace(b.spec, specs.CgroupNamespace) },
	} {
		t.Run(name, func(t *testing.T) {
			b := bearing(t, func(b *box) {
				b.spec.Linux.Resources = &specs.LinuxResources{Devices: b.spec.Linux.Resources.Devices}
				b.spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/refused", Type: "b", Major: 7}} // no rule allows it
				if change != nil {
					change(b)
				}
			}, "sh", "-c", likeness+"\ncat /dev/refused 2>&1", "zero", "one", "")
			want, got, bare := b.both()
			if got != want {
				t.Errorf("they differ:\n%s", differing(want, got))
			}
			if bare != want {
				t.Errorf("born from a bare namespace it differs:\n%s", differing(want, bare))
			}
			for _, line := range []string{"\n0::/", "'/dev/refused': Operation not permitted"} {
				if !strings.Contains(got, line) {
					t.Errorf("%q is missing in\n%s", line, got)
				}
			}
		})
	}
}
