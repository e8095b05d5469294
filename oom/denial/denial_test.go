package denial_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/oom/denial"
	"github.com/vitrine-runtime/vitrine/test/golden"
)

func TestDenialsAreToldInTheWordsOfTheirGoldenFile(t *testing.T) {
	var b strings.Builder
	for _, d := range []ebpf.Denial{
		{Layer: ebpf.Seccomp, Syscall: unix.SYS_BPF, Capability: -1, Signal: unix.SIGSYS},
		{Layer: ebpf.Seccomp, Syscall: unix.SYS_KEYCTL, Capability: -1, Error: unix.ENOSYS, Count: 12},
		{Layer: ebpf.Seccomp, Syscall: 11, Foreign: true, Capability: -1, Error: unix.EPERM},
		{Layer: ebpf.Seccomp, Syscall: 470, Capability: -1, Error: unix.EPERM},
		{Layer: ebpf.Capability, Syscall: unix.SYS_CHROOT, Capability: unix.CAP_SYS_CHROOT, Error: unix.EPERM, Path: "/srv"},
		{Layer: ebpf.Capability, Syscall: unix.SYS_BIND, Capability: unix.CAP_NET_BIND_SERVICE, Count: 2},
		{Layer: ebpf.Capability, Syscall: unix.SYS_OPENAT, Capability: unix.CAP_DAC_OVERRIDE, Error: unix.EACCES, Path: "/etc/shadow"},
		{Layer: ebpf.Capability, Syscall: unix.SYS_BIND, Capability: 63},
		{Layer: ebpf.SELinux, Syscall: unix.SYS_OPENAT, Capability: -1, Access: 2, Path: "file"},
		{Layer: ebpf.SELinux, Syscall: -1, Capability: -1, Access: 1, Path: "tcp_socket"},
		{Layer: ebpf.ReadOnly, Syscall: unix.SYS_MKDIRAT, Capability: -1, Error: unix.EROFS, Path: "/usr/lib/new\nline"},
		{Layer: ebpf.Permission, Syscall: unix.SYS_OPENAT, Capability: -1, Error: unix.EPERM, Path: "/dev/fuse"},
		{Layer: ebpf.Permission, Syscall: unix.SYS_MKNODAT, Capability: -1, Error: unix.EPERM, Path: "/srv/null"},
		{Layer: ebpf.Permission, Syscall: unix.SYS_EXECVE, Capability: -1, Error: unix.EACCES, Path: "/data/run.sh"},
		{Layer: ebpf.Permission, Syscall: unix.SYS_OPENAT, Capability: -1, Error: unix.EACCES, Path: "/data/key"},
		{Layer: ebpf.Permission, Syscall: unix.SYS_CONNECT, Capability: -1, Error: unix.EACCES},
	} {
		d.Comm, d.ContainerPID, d.Count = "app", 7, max(d.Count, 1)
		fmt.Fprintf(&b, "%s\n\t%s\n", denial.What(d), denial.Remedy(d))
	}
	golden.Check(t, "testdata/words.txt", b.String())
}

func TestEveryCapabilityHasAName(t *testing.T) {
	if name := denial.Capability(unix.CAP_LAST_CAP); name != "CHECKPOINT_RESTORE" {
		t.Errorf("the last one is %s", name)
	}
	if name := denial.Capability(unix.CAP_SYS_ADMIN); name != "SYS_ADMIN" {
		t.Errorf("CAP_SYS_ADMIN is %s", name)
	}
}
