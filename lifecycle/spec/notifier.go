package spec

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// notifierAnnotation asks that each system call that a container's seccomp profile
// refuses be counted by name, however often, or end the container. Behind a slash and a
// container's name it is about that container of the pod alone.
//
//	io.vitrine.seccomp.notifier: log
//	io.vitrine.seccomp.notifier/strict: kill
const notifierAnnotation = "io.vitrine.seccomp.notifier"

// The values of the annotation.
const (
	NotifierOff  = ""
	NotifierLog  = "log"
	NotifierKill = "kill"
)

// Notifier is what the annotations ask for, if allowed names them (see
// Defaults.Annotations); the container's own go before the pod's. A value that is none
// is ErrInvalid.
func Notifier(allowed []string, container string, sources ...map[string]string) (mode string, err error) {
	if err := notifierSettings.lay(&mode, notifierAnnotation, allowed, container, sources); err != nil {
		return "", err
	}
	return mode, nil
}

var notifierSettings = settings[string]{"": func(mode *string, value string) error {
	switch value {
	case NotifierLog, NotifierKill:
		*mode = value
	case "off":
		*mode = NotifierOff
	default:
		return fmt.Errorf("%q is not log, kill or off", value)
	}
	return nil
}}

// maxSocketPath is what the address of a unix socket has room for, in bytes.
const maxSocketPath = 107

// Notify changes a filter so that what it refuses with EPERM is asked of whoever listens
// at socket, who refuses it too; rules that name SCMP_ACT_NOTIFY themselves are asked the
// same. names are all system calls: those that no rule names are the default action's.
// It reports whether anything can be asked at all.
//
// Other errors stay as they are: ENOSYS is how a profile says that a call does not exist,
// and libraries rely on it. So do the calls that a runtime's init may need while it hands
// the listener over, when nobody could answer it, and the default for calls that a rule
// allows for some arguments only.
func Notify(f *specs.LinuxSeccomp, names []string, socket string) (asks bool, err error) {
	switch {
	case f == nil:
		return false, nil
	case f.ListenerPath != "":
		return false, invalid("annotation %s: the seccomp profile has a listener of its own, %.200q", notifierAnnotation, f.ListenerPath)
	case f.DefaultAction == specs.ActNotify:
		return false, invalid("seccomp profile: SCMP_ACT_NOTIFY cannot be the default action")
	case len(socket) > maxSocketPath:
		return false, unsupported("annotation %s: the path of the listener's socket, %q, is longer than %d bytes; use a shorter state directory", notifierAnnotation, socket, maxSocketPath)
	}
	named := map[string]bool{}
	for _, name := range handover {
		named[name] = true
	}
	for i := range f.Syscalls {
		rule := &f.Syscalls[i]
		for _, name := range rule.Names {
			named[name] = true
		}
		if refuses(rule.Action, rule.ErrnoRet) && !slices.ContainsFunc(rule.Names, func(name string) bool { return slices.Contains(handover, name) }) {
			rule.Action, rule.ErrnoRet = specs.ActNotify, nil
		}
		asks = asks || rule.Action == specs.ActNotify
	}
	if refuses(f.DefaultAction, f.DefaultErrnoRet) {
		rest := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return named[name] })
		if len(rest) > 0 {
			f.Syscalls = append(f.Syscalls, specs.LinuxSyscall{Names: rest, Action: specs.ActNotify})
			asks = true
		}
	}
	if asks {
		f.ListenerPath = socket
	}
	return asks, nil
}

// handover are the calls of an init between its filter and its listener's way out.
var handover = []string{"write", "read", "close", "fcntl", "futex", "clone", "mmap", "munmap", "madvise", "mprotect", "brk",
	"epoll_wait", "epoll_pwait", "epoll_ctl", "nanosleep", "clock_nanosleep", "sched_yield", "getpid", "gettid", "tgkill",
	"rt_sigreturn", "rt_sigprocmask", "rt_sigaction", "sigaltstack", "exit", "exit_group"}

// refuses reports whether the action is the error EPERM.
func refuses(action specs.LinuxSeccompAction, errno *uint) bool {
	return action == specs.ActErrno && (errno == nil || *errno == uint(unix.EPERM))
}
