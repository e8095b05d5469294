package ebpf

import (
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// A watchable is what can be asked of a container's system calls.
type watchable struct {
	family
	flags syscallsWatching
}

func watchables() []watchable {
	all := []watchable{
		{family{name: "eBPF syscall counts",
			with:    "how often a container makes each system call, and how often it fails, is counted while somebody asks; a seccomp profile can be learned",
			without: "system calls cannot be counted, and no seccomp profile can be learned"}, 0},
		{family{name: "eBPF syscall latency",
			with: "a sample of a container's system calls is timed while somebody asks", without: "system calls cannot be timed"}, syscallsWatchingWATCH_LATENCY},
		{family{name: "eBPF denied syscalls",
			with:    "all that a container's system calls are refused is in its ledger while somebody asks",
			without: "only what is denied by a signal, a missing capability or SELinux is in a container's ledger"}, syscallsWatchingWATCH_DENIALS},
		{family{name: "eBPF flight recorder",
			with: "the last system calls of a container that asks are kept for its end", without: "the last system calls before an end cannot be kept"}, syscallsWatchingWATCH_FLIGHT},
	}
	for i := range all {
		all[i].tracepoint = "sys_exit"
		if all[i].flags&syscallsWatchingWATCH_ENTRY != 0 {
			all[i].tracepoint = "sys_enter"
		}
	}
	return all
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
		case err == nil:
			failed = o.attach(uint32(f.flags))
		}
		feature := outcome{f.family, failed}.feature()
		if feature.OK && f.flags == syscallsWatchingWATCH_DENIALS && o.capable == "" {
			feature.Consequence += "; a missing capability only as a permission, because the kernel tells of none"
		}
		features = append(features, feature)
	}
	return features
}
