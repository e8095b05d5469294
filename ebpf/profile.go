package ebpf

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
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
	"rt_sigreturn", "sched_yield", "setgid", "setgroups", "setuid", "sigaltstack", "statx", "tgkill", "write",
}

// Profile is what a container needs, as a seccomp profile of the OCI runtime
// specification, which in JSON is also Kubernetes' localhost profile: of the calls that
// were counted, and of what its launcher needs, all is allowed; all else is EPERM. A
// syscall that seccomp always refused stays refused with the error that it had: a
// profile learned under another one is never wider than that. That needs a watch with
// Denials. A syscall that the container did not come to make is missing: let it do its
// whole work first. A container that ran 32-bit programs is refused, since their numbers
// are not kept.
func Profile(calls []Syscall) (*specs.LinuxSeccomp, error) { return profile(calls, runtime.GOARCH) }

func profile(calls []Syscall, machine string) (*specs.LinuxSeccomp, error) {
	names := slices.Clone(launcher)
	refused := map[unix.Errno][]string{}
	for _, c := range calls {
		if c.Number == OtherSyscalls {
			return nil, fmt.Errorf("learn a seccomp profile: %d calls of 32-bit programs or of numbers from %d on", c.Calls, OtherSyscalls)
		}
		name := SyscallName(c.Number)
		if name == strconv.Itoa(c.Number) {
			return nil, fmt.Errorf("learn a seccomp profile: syscall %d has no name here", c.Number)
		}
		switch {
		case c.Refused < c.Calls:
			names = append(names, name)
		case c.Answer != unix.EPERM && !slices.Contains(launcher, name):
			// Programs read the answer: to ENOSYS of clone3 the C library falls back to clone.
			refused[c.Answer] = append(refused[c.Answer], name)
		}
	}
	slices.Sort(names)
	arch := map[string]specs.Arch{"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64}[machine]
	eperm := uint(1)
	rules := []specs.LinuxSyscall{{Names: slices.Compact(names), Action: specs.ActAllow}}
	for _, errno := range slices.Sorted(maps.Keys(refused)) {
		answer := uint(errno)
		slices.Sort(refused[errno])
		rules = append(rules, specs.LinuxSyscall{Names: refused[errno], Action: specs.ActErrno, ErrnoRet: &answer})
	}
	return &specs.LinuxSeccomp{
		DefaultAction:   specs.ActErrno,
		DefaultErrnoRet: &eperm,
		Architectures:   []specs.Arch{arch},
		Syscalls:        rules,
	}, nil
}
