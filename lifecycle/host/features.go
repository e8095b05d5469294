package host

import (
	"bytes"
	"errors"
	"os"

	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
)

// Feature is one line of `vitrine check`: what the kernel or the daemon's own rights
// allow, and what follows for pods.
type Feature struct {
	Name        string
	OK          bool
	Consequence string
}

// Features asks the kernel; it changes nothing.
func Features() []Feature {
	status, _ := os.ReadFile("/proc/self/status")
	bounding := proc.Mask(status, "CapBnd")
	has := func(capability uint) bool { return bounding&(1<<capability) != 0 }
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	line := func(name string, ok bool, with, without string) Feature {
		if ok {
			return Feature{name, true, with}
		}
		return Feature{name, false, without}
	}
	return []Feature{
		line("seccomp", bytes.Contains(status, []byte("\nSeccomp:")), "system calls are filtered", "pods that ask for a seccomp profile are refused"),
		line("AppArmor", fileContains("/sys/module/apparmor/parameters/enabled", "Y"), "profiles are applied, vitrine-default where a pod names none", "pods that name a profile are refused, the others run without one"),
		line("SELinux", selinux.GetEnabled(), "processes and files are labelled", "labels of pods are passed over"),
		line("CAP_SYS_RESOURCE", has(unix.CAP_SYS_RESOURCE), "oom_score_adj and limits are set as asked",
			"oom_score_adj and resource limits are clamped to the daemon's own"),
		line("CAP_SYS_ADMIN", has(unix.CAP_SYS_ADMIN), "containers can be made", "no container can be made"),
		line("CAP_BPF", has(unix.CAP_BPF), "kernel events can be observed", "no evidence comes from eBPF"),
		line("BTF", exists("/sys/kernel/btf/vmlinux"), "kernel events can be read on this kernel", "no evidence comes from eBPF"),
		line("user namespaces", exists("/proc/self/ns/user"), "namespaces with mapped users can be made", "pods with hostUsers: false are refused"),
		line("pidfd", pidfdWorks(), "no signal reaches a process that took over a pid", "containers cannot be stopped safely: Linux 5.3 is needed"),
		line("openat2", openat2Works(), "files of images are read inside their root", "no container can be made: Linux 5.6 is needed"),
		line("mount_setattr", syscallExists(unix.SYS_MOUNT_SETATTR), "mounts can be recursively read-only and idmapped", "recursive read-only mounts are refused: Linux 5.12 is needed"),
		line("overlayfs", fileContains("/proc/filesystems", "\toverlay\n"), "images are mounted in layers", "no container can be made"),
	}
}

func pidfdWorks() bool {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

func openat2Works() bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

// syscallExists calls with arguments that every kernel refuses.
func syscallExists(number uintptr) bool {
	_, _, e := unix.Syscall6(number, ^uintptr(0), 0, 0, 0, 0, 0)
	return !errors.Is(e, unix.ENOSYS)
}
