package ebpf_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
)

func itoa(n int) string { return strconv.Itoa(n) }

// dropped tries to open the programs without the rights for it, in a process of its own.
func dropped() {
	runtime.LockOSThread() // rights belong to a thread
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	check(unix.Capget(&header, &caps[0]))
	for _, c := range []uint{unix.CAP_SYS_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON} {
		caps[c/32].Effective &^= 1 << (c % 32)
	}
	check(unix.Capset(&header, &caps[0]))
	p, err := ebpf.Open(ebpf.Config{PinDir: os.Getenv("PLAY_PINS")})
	fmt.Println(p == nil, errors.Is(err, ebpf.ErrUnavailable), err)
	fmt.Println(ebpf.Features())
}

func TestWithoutRightsTheReasonIsNamed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to have something to drop")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "PLAY=open", "PLAY_PINS="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.HasPrefix(string(out), "true true ") || strings.Count(string(out), "CAP_BPF") != 2 {
		t.Errorf("said: %s", out)
	}
}

func TestFeaturesLeaveNothingBehind(t *testing.T) {
	ebpf.Require(t)
	before := mounts(t)
	named := map[string]bool{}
	for _, f := range ebpf.Features() {
		named[f.Name] = true
		t.Logf("%s %v: %s", f.Name, f.OK, f.Consequence)
		if !f.OK {
			t.Errorf("%s: %s", f.Name, f.Consequence)
		}
	}
	for _, name := range []string{"eBPF OOM kills", "eBPF syscall counts", "eBPF syscall latency", "eBPF denied syscalls", "eBPF flight recorder"} {
		if !named[name] {
			t.Errorf("nothing is said of %s", name)
		}
	}
	if after := mounts(t); after != before {
		t.Errorf("bpffs mounts: %d before, %d after", before, after)
	}
}

func mounts(t *testing.T) int {
	t.Helper()
	list, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(list), "vitrine-bpf")
}
