package ebpf

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	cebpf "github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Layer is who refused, by the numbers of the programs (bpf/ledger.h).
type Layer uint32

// The layers. Permission is the kernel's EPERM or EACCES for another reason than those
// before it: file modes, the device cgroup, AppArmor, a namespace.
const (
	Seccomp    = Layer(programsLayerLAYER_SECCOMP)
	Capability = Layer(programsLayerLAYER_CAPABILITY)
	SELinux    = Layer(programsLayerLAYER_SELINUX)
	ReadOnly   = Layer(programsLayerLAYER_READ_ONLY)
	Permission = Layer(programsLayerLAYER_PERMISSION)
)

// Denial is one line of a container's ledger: one thing that was refused, however often.
type Denial struct {
	Layer Layer
	// Syscall is its number on this machine, see SyscallName; -1 if it was in none.
	// Foreign: a number of the machine's other table (a 32-bit program's).
	Syscall int
	Foreign bool
	// Capability is its number; -1 if Layer is another.
	Capability int
	// Signal is what seccomp sent; 0 if it only returned Error.
	Signal unix.Signal
	// Access is the vector that SELinux refused, of the class in Path.
	Access uint32
	// Error is what the syscall returned. 0: not seen, since nobody watched; a syscall
	// that lacked a capability may then have succeeded without it.
	Error unix.Errno
	// Path is as the process gave it, at most 95 bytes, if the syscall has one and
	// somebody watched.
	Path  string
	Count uint64
	// First and Last are the clock of the boot, suspend included.
	First, Last time.Duration
	// PID, ContainerPID and Comm are of the process that was first.
	PID, ContainerPID int
	Comm              string
}

// Denials is a container's ledger in the order of time, and how many denials found no
// place in it: a container has room for 256 different ones. The ledger has, always,
// seccomp's kills and traps, missing capabilities and SELinux denials; while
// WatchSyscalls watches with Denials, also all that syscalls were refused.
func (p *Programs) Denials(cgroup uint64) (ledger []Denial, lost uint64, err error) {
	var use programsDenialUse // made before the first line, so nobody else's need be walked without it
	switch err := p.maps[programsMapDenialUses].Lookup(cgroup, &use); {
	case errors.Is(err, cebpf.ErrKeyNotExist):
		return nil, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("denials of cgroup %d: %w", cgroup, err)
	}
	entries, err := p.ledger(cgroup)
	if err != nil {
		return nil, 0, fmt.Errorf("denials of cgroup %d: %w", cgroup, err)
	}
	for key, d := range entries {
		ledger = append(ledger, denial(key, d))
	}
	start, err := p.StartProfile(cgroup)
	if err != nil {
		return nil, 0, err
	}
	ledger = withoutEchoes(withoutLaunch(ledger, start.Exec))
	slices.SortFunc(ledger, func(a, b Denial) int { return cmp.Compare(a.First, b.First) })
	return ledger, use.Lost, nil
}

// ledger reads a cgroup's part. A walk through a hash begins anew when somebody else's
// entry is taken away below it, so entries may come twice, and it may give up.
func (p *Programs) ledger(cgroup uint64) (map[programsDenialKey]programsDenial, error) {
	entries := map[programsDenialKey]programsDenial{}
	var err error
	for range 5 {
		var key programsDenialKey
		var d programsDenial
		it := p.maps[programsMapDenials].Iterate()
		for it.Next(&key, &d) {
			if key.Cgroup == cgroup {
				entries[key] = d
			}
		}
		if err = it.Err(); !errors.Is(err, cebpf.ErrIterationAborted) {
			break
		}
	}
	return entries, err
}

// Denied counts the denials of all containers since the programs were first attached,
// also of those that are gone and those that found no place in the ledger.
func (p *Programs) Denied() (map[Layer]uint64, error) {
	counts := map[Layer]uint64{}
	for layer := Seccomp; layer <= Permission; layer++ {
		var perCPU []uint64
		if err := p.maps[programsMapDenied].Lookup(uint32(layer), &perCPU); err != nil {
			return nil, fmt.Errorf("count of denials: %w", err)
		}
		for _, n := range perCPU {
			counts[layer] += n
		}
	}
	return counts, nil
}

// withoutEchoes drops checks for a capability that a syscall is known to have failed by.
func withoutEchoes(ledger []Denial) []Denial {
	type check struct{ syscall, capability int }
	known := map[check]bool{}
	for _, d := range ledger {
		if d.Layer == Capability && d.Error != 0 {
			known[check{d.Syscall, d.Capability}] = true
		}
	}
	return slices.DeleteFunc(ledger, func(d Denial) bool {
		return d.Layer == Capability && d.Error == 0 && known[check{d.Syscall, d.Capability}]
	})
}

// withoutLaunch drops what was asked for before PID 1's first execve, for good: that was
// the launcher, also one that is not PID 1. Seccomp's and SELinux's denials of that time
// stay, since they say why a container did not start.
func withoutLaunch(ledger []Denial, exec time.Duration) []Denial {
	return slices.DeleteFunc(ledger, func(d Denial) bool { return d.Layer == Capability && d.Last < exec })
}

// foreign is COMPAT of bpf/ledger.h.
const foreign = 1 << 30

func denial(key programsDenialKey, d programsDenial) Denial {
	n := Denial{Layer: Layer(key.Layer), Syscall: int(key.Syscall), Capability: -1, Error: unix.Errno(key.Error),
		Path: text(key.Path[:]), Count: d.Count, First: time.Duration(d.First), Last: time.Duration(d.Last),
		PID: int(d.Tgid), ContainerPID: int(d.NsTgid), Comm: text(d.Comm[:])}
	if n.Syscall > 0 && n.Syscall&foreign != 0 {
		n.Syscall, n.Foreign = n.Syscall&^foreign, true
	}
	switch n.Layer {
	case Seccomp:
		n.Signal = unix.Signal(key.What)
	case Capability:
		n.Capability = int(key.What)
	case SELinux:
		n.Access = key.What
	}
	return n
}

// forget drops what the ledger and the start profile know of a cgroup.
func (p *Programs) forget(cgroup uint64) error {
	var errs []error
	drop := func(m string, key any) {
		if err := p.maps[m].Delete(key); !errors.Is(err, cebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	entries, err := p.ledger(cgroup)
	errs = append(errs, err)
	for key := range entries {
		drop(programsMapDenials, key)
	}
	drop(programsMapDenialUses, cgroup)
	drop(programsMapStarts, cgroup)
	var port programsListener
	var owner uint64
	var ports []programsListener
	waiting := p.maps[programsMapListeners].Iterate()
	for waiting.Next(&port, &owner) {
		if owner == cgroup {
			ports = append(ports, port)
		}
	}
	errs = append(errs, waiting.Err())
	for _, port := range ports {
		drop(programsMapListeners, port)
	}
	return errors.Join(errs...)
}
