package ebpf

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// launcher is what is done between the loading of a filter and the container's execve:
// by libcontainer, which without no_new_privs still changes user, capabilities and
// directory then, and by the Go runtime below it. exit, exit_group and rt_sigreturn do
// not return, so no watch counts them.
var launcher = []string{
	"brk", "capget", "capset", "chdir", "clone", "close", "close_range", "epoll_create1", "epoll_ctl", "epoll_pwait",
	"eventfd2", "execve", "exit", "exit_group", "faccessat", "faccessat2", "fchown", "fcntl", "fstat", "fstatfs", "futex",
	"getcwd", "getdents64", "getpid", "getppid", "gettid", "getuid", "madvise", "mmap", "mprotect", "munmap", "nanosleep",
	"newfstatat", "openat", "openat2", "prctl", "read", "readlinkat", "restart_syscall", "rt_sigaction", "rt_sigprocmask",
	"rt_sigreturn", "sched_yield", "setgid", "setgroups", "setuid", "sigaltstack", "tgkill", "write",
}

// Profile is what a container needs, as a seccomp profile of the OCI runtime
// specification, which in JSON is also Kubernetes' localhost profile: what it has called
// since the watch began, and what its launcher needs, is allowed; all else is EPERM.
// A syscall that the container did not come to make is missing: let it do its whole work
// first. A container that ran 32-bit programs is refused, since their numbers are not kept.
func (w *Watch) Profile() (*specs.LinuxSeccomp, error) {
	calls, err := w.Syscalls()
	if err != nil {
		return nil, err
	}
	return profile(calls, runtime.GOARCH)
}

func profile(calls []Syscall, machine string) (*specs.LinuxSeccomp, error) {
	names := slices.Clone(launcher)
	for _, c := range calls {
		if c.Number == OtherSyscalls {
			return nil, fmt.Errorf("learn a seccomp profile: %d calls of 32-bit programs or of numbers from %d on", c.Calls, OtherSyscalls)
		}
		name := SyscallName(c.Number)
		if name == strconv.Itoa(c.Number) {
			return nil, fmt.Errorf("learn a seccomp profile: syscall %d has no name here", c.Number)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	arch := map[string]specs.Arch{"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64}[machine]
	eperm := uint(1)
	return &specs.LinuxSeccomp{
		DefaultAction:   specs.ActErrno,
		DefaultErrnoRet: &eperm,
		Architectures:   []specs.Arch{arch},
		Syscalls:        []specs.LinuxSyscall{{Names: slices.Compact(names), Action: specs.ActAllow}},
	}, nil
}
