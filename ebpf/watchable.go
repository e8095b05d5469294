package ebpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// watchables are what can be asked of a container's system calls. The program at the
// beginning of a call is needed by all but the first.
func watchables() []family {
	return []family{
		{"eBPF syscall counts", syscallsProgSysExit, "sys_exit",
			"how often a container makes each system call, and how often it fails, is counted while somebody asks; a seccomp profile can be learned",
			"system calls cannot be counted, and no seccomp profile can be learned", ""},
		{"eBPF syscall latency", syscallsProgSysEnter, "sys_enter",
			"a sample of a container's system calls is timed while somebody asks", "system calls cannot be timed", ""},
		{"eBPF denied syscalls", syscallsProgSysEnter, "sys_enter",
			"all that a container's system calls are refused is in its ledger while somebody asks", "only what is denied by a signal, a missing capability or SELinux is in a container's ledger", ""},
		{"eBPF flight recorder", syscallsProgSysEnter, "sys_enter",
			"the last system calls of a container that asks are kept for its end", "the last system calls before an end cannot be kept", ""},
	}
}

// SyscallFeatures says what could be asked of system calls. It tries it out when it is first
// called: it loads and attaches the programs for a moment, which takes about as long as a
// first watch, and leaves nothing attached. A kernel does not change its mind, so the answer
// is kept.
func (p *Programs) SyscallFeatures() []Feature {
	p.watching.mu.Lock()
	defer p.watching.mu.Unlock()
	if p.watching.features == nil {
		p.watching.features = p.trySyscalls()
	}
	return p.watching.features
}

// trySyscalls is called under the lock of watching.
func (p *Programs) trySyscalls() (features []Feature) {
	kernel, err := btf.LoadKernelSpec()
	var o *observer
	if err == nil {
		o, err = newObserver(p)
	}
	if err == nil {
		defer func() { o.close() }() // what is not pinned ends with its descriptors
	}
	for _, f := range watchables() {
		failed := err
		switch {
		case kernel != nil && tracepoint(kernel, f.tracepoint) == nil:
			failed = fmt.Errorf("%s: %w", f.tracepoint, errAbsent)
		case err == nil && f.program == syscallsProgSysEnter:
			failed = errors.Join(o.withoutEntry, o.attach(uint32(syscallsWatchingWATCH_ENTRY)))
		case err == nil:
			failed = o.attach(0)
		}
		feature := outcome{f, failed}.feature()
		if feature.OK && f.name == "eBPF denied syscalls" && o.capable == "" {
			feature.Consequence += "; a missing capability only as a permission, because the kernel tells of none"
		}
		features = append(features, feature)
	}
	return features
}
