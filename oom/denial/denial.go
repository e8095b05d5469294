// Package denial says in words what a container was denied and what would allow it. It
// is pure: a line of the kernel's ledger in, two sentences out. It never advises to give
// more than the one thing that was missing, and where the kernel's answer has several
// causes it says "probably".
package denial

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Capabilities are the names by number, as securityContext.capabilities has them
// (include/uapi/linux/capability.h).
var capabilities = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
	SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
	AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
	CHECKPOINT_RESTORE`)

// Capability is a capability's name without CAP_, or its number if it has none here.
func Capability(number int) string {
	if number >= 0 && number < len(capabilities) {
		return capabilities[number]
	}
	return fmt.Sprint(number)
}

// Line is a line of the ledger, for rooms that do not know the programs.
type Line = ebpf.Denial

// layers are the names of who refused.
var layers = map[ebpf.Layer]string{
	ebpf.Seccomp: "seccomp", ebpf.Capability: "capability", ebpf.SELinux: "selinux",
	ebpf.ReadOnly: "read-only", ebpf.Permission: "permission",
}

// Layer names who refused; "unknown" for one that is younger than this table.
func Layer(l ebpf.Layer) string { return cmp.Or(layers[l], "unknown") }

// Record is a line as a container's record keeps it. now is the present moment by both
// clocks.
func Record(d Line, now time.Time, sinceBoot time.Duration) pod.Denial {
	r := pod.Denial{
		Layer: Layer(d.Layer), Path: d.Path, Count: d.Count,
		First: now.Add(d.First - sinceBoot), Last: now.Add(d.Last - sinceBoot),
		Process: pod.Culprit{PID: d.PID, ContainerPID: d.ContainerPID, Command: d.Comm},
		What:    What(d), Remedy: Remedy(d),
	}
	switch {
	case d.Foreign:
		r.Syscall = fmt.Sprintf("32-bit %d", d.Syscall)
	case d.Syscall >= 0:
		r.Syscall = ebpf.SyscallName(d.Syscall)
	}
	if d.Capability >= 0 {
		r.Capability = Capability(d.Capability)
	}
	if d.Error != 0 {
		r.Error = cmp.Or(unix.ErrnoName(d.Error), d.Error.Error())
	}
	if d.Signal != 0 {
		r.Signal = unix.SignalName(d.Signal)
	}
	return r
}

// Asked is a system call that a seccomp filter left to a container's monitor, which
// refused it: arch is an AUDIT_ARCH_ constant. first and last are the clock of the boot.
// pid is the host's, and stands for the container's as well, which nobody was told.
func Asked(number int, arch uint32, count uint64, first, last time.Duration, pid int, command string) Line {
	return Line{Layer: ebpf.Seccomp, Syscall: number, Foreign: arch != ebpf.NativeArch(), Capability: -1, Error: unix.EPERM,
		Count: count, First: first, Last: last, PID: pid, ContainerPID: pid, Comm: command}
}

// Syscalls are the names of all system calls of this machine, sorted.
func Syscalls() []string { return ebpf.SyscallNames() }

// Syscall names the line's system call.
func Syscall(d Line) string {
	if d.Foreign {
		return fmt.Sprintf("32-bit syscall %d", d.Syscall)
	}
	return ebpf.SyscallName(d.Syscall)
}

// What says what was denied, to whom and how often.
func What(d ebpf.Denial) string {
	var b strings.Builder
	call := "an access outside of a syscall"
	if d.Syscall >= 0 {
		call = ebpf.SyscallName(d.Syscall)
		if d.Foreign {
			call = fmt.Sprintf("32-bit syscall %d", d.Syscall)
		}
	}
	if d.Path != "" && d.Layer != ebpf.SELinux {
		call += fmt.Sprintf(" of %q", d.Path)
	}
	switch {
	case d.Layer == ebpf.Seccomp && d.Signal != 0:
		fmt.Fprintf(&b, "%s was ended by seccomp (%s)", call, unix.SignalName(d.Signal))
	case d.Layer == ebpf.Seccomp:
		fmt.Fprintf(&b, "%s was answered by seccomp with %s", call, unix.ErrnoName(d.Error))
	case d.Layer == ebpf.Capability && d.Error == 0:
		fmt.Fprintf(&b, "%s asked for CAP_%s, which is missing; whether it failed was not watched", call, Capability(d.Capability))
	case d.Layer == ebpf.Capability:
		fmt.Fprintf(&b, "%s failed with %s, since CAP_%s is missing", call, unix.ErrnoName(d.Error), Capability(d.Capability))
	case d.Layer == ebpf.SELinux:
		fmt.Fprintf(&b, "%s was refused by SELinux (class %s, access %#x)", call, d.Path, d.Access)
	case d.Layer == ebpf.ReadOnly:
		fmt.Fprintf(&b, "%s failed with %s, since the file system is read-only", call, unix.ErrnoName(d.Error))
	default:
		fmt.Fprintf(&b, "%s failed with %s", call, unix.ErrnoName(d.Error))
	}
	fmt.Fprintf(&b, " (%s, pid %d", d.Comm, d.ContainerPID)
	if d.Count > 1 {
		fmt.Fprintf(&b, ", %d times", d.Count)
	}
	b.WriteString(")")
	return b.String()
}

// Remedy says what would allow it, in the words of a pod's specification.
func Remedy(d ebpf.Denial) string {
	name := ebpf.SyscallName(d.Syscall)
	switch d.Layer {
	case ebpf.Seccomp:
		if d.Foreign {
			return "a seccomp profile that has this machine's 32-bit architecture (securityContext.seccompProfile)"
		}
		return fmt.Sprintf("a seccomp profile that allows %s (securityContext.seccompProfile)", name)
	case ebpf.Capability:
		add := fmt.Sprintf("securityContext.capabilities.add: [%s]", Capability(d.Capability))
		switch d.Capability {
		case unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER:
			return "running as the file's owner or group (runAsUser, fsGroup), or " + add
		case unix.CAP_NET_BIND_SERVICE:
			return "a port from 1024 on, or " + add
		}
		return add
	case ebpf.SELinux:
		return "a context that the policy allows this to (securityContext.seLinuxOptions); the node's audit log has the rule"
	case ebpf.ReadOnly:
		return "a volume at this place, without readOnly, or readOnlyRootFilesystem: false"
	}
	switch {
	case d.Error == unix.EPERM && d.Path != "" && (strings.HasPrefix(name, "open") || strings.HasPrefix(name, "mknod")) &&
		(strings.HasPrefix(d.Path, "/dev/") || strings.HasPrefix(name, "mknod")):
		return "probably the device: ask for it by a device plugin or CDI"
	case strings.HasPrefix(name, "exec"):
		return "probably the file's mode, or a volume that is mounted noexec"
	case d.Path != "":
		return "probably the file's owner and mode (runAsUser, fsGroup), a device on a nodev mount, or the AppArmor profile"
	}
	return "not known: the kernel gives no reason for it"
}
