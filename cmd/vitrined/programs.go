package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/oom"
	"github.com/vitrine-runtime/vitrine/oom/calls"
	"github.com/vitrine-runtime/vitrine/oom/denial"
	"github.com/vitrine-runtime/vitrine/pod"
)

// programs are the eBPF programs, which a first start of the daemon takes a second to
// load: the daemon serves meanwhile, and only who needs them waits. It is lifecycle's
// witness. Where they cannot be loaded it observes nothing, and verdicts rest on the
// cgroups' own counters and say what they do not know.
type programs struct {
	config ebpf.Config
	done   chan struct{} // closed when loaded is what it will be
	loaded *ebpf.Programs
}

// loadPrograms begins to load them.
func loadPrograms(config ebpf.Config) *programs {
	p := &programs{config: config, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if config.Disabled {
			logged("eBPF programs of an earlier life", func() error { return ebpf.Wipe(config.PinDir) })()
			return
		}
		loaded, err := ebpf.Open(config)
		if err != nil {
			slog.Warn("containers are not observed by eBPF; OOM verdicts rest on the cgroups' counters", "error", err)
			return
		}
		for _, f := range loaded.Features() {
			if !f.OK {
				slog.Warn("an eBPF program is missing", "program", f.Name, "consequence", f.Consequence)
			}
		}
		p.loaded = loaded
		debug.FreeOSMemory() // reading the kernel's types took twenty megabytes that are not needed again
	}()
	return p
}

// get waits for the programs; nil if there are none.
func (p *programs) get() *ebpf.Programs {
	<-p.done
	return p.loaded
}

// close waits for what loadPrograms began. What is attached stays attached.
func (p *programs) close() error {
	if loaded := p.get(); loaded != nil {
		return loaded.Close()
	}
	return nil
}

func (p *programs) Observes(kind oom.Kind) bool {
	loaded := p.get()
	return loaded != nil && loaded.Observes(kind)
}

var errNoPrograms = fmt.Errorf("%w: no eBPF program is loaded", pod.ErrUnsupported)

func (p *programs) Track(cgroup uint64) error {
	if loaded := p.get(); loaded != nil {
		return loaded.Track(cgroup)
	}
	return errNoPrograms
}

func (p *programs) SetInit(cgroup uint64, pid int) error {
	if loaded := p.get(); loaded != nil {
		return loaded.SetInit(cgroup, pid)
	}
	return errNoPrograms
}

func (p *programs) Last(cgroup uint64) (oom.Last, error) {
	if loaded := p.get(); loaded != nil {
		return loaded.Last(cgroup)
	}
	return oom.Last{}, errNoPrograms
}

func (p *programs) Untrack(cgroup uint64) error {
	if loaded := p.get(); loaded != nil {
		return loaded.Untrack(cgroup)
	}
	return nil
}

func (p *programs) Tracked() ([]uint64, error) {
	if loaded := p.get(); loaded != nil {
		return loaded.Tracked()
	}
	return nil, nil
}

func (p *programs) Events(ctx context.Context, handle func(oom.Record)) error {
	select {
	case <-p.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.loaded == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return p.loaded.Events(ctx, handle)
}

func (p *programs) Denials(cgroup uint64) ([]denial.Line, uint64, error) {
	if loaded := p.get(); loaded != nil {
		return loaded.Denials(cgroup)
	}
	return nil, 0, nil
}

func (p *programs) WatchSyscalls(cgroup uint64, options calls.Options) (lifecycle.Watch, error) {
	loaded := p.get()
	if loaded == nil {
		return nil, errNoPrograms
	}
	w, err := loaded.WatchSyscalls(cgroup, options)
	switch {
	case errors.Is(err, ebpf.ErrWatches):
		return nil, fmt.Errorf("%w: %w", pod.ErrExhausted, err)
	case err != nil:
		return nil, err
	}
	return w, nil
}

func (p *programs) StartProfile(cgroup uint64) (oom.Start, error) {
	if loaded := p.get(); loaded != nil {
		return loaded.StartProfile(cgroup)
	}
	return oom.Start{}, errNoPrograms
}

// ready is get that does not wait: nil also before they are loaded.
func (p *programs) ready() *ebpf.Programs {
	select {
	case <-p.done:
		return p.loaded
	default:
		return nil
	}
}

// denied counts denials by layer, nil without programs or before they are loaded.
func (p *programs) denied() map[string]uint64 {
	loaded := p.ready()
	if loaded == nil {
		return nil
	}
	all, err := loaded.Denied()
	if err != nil {
		return nil
	}
	counts := map[string]uint64{}
	for layer, n := range all {
		counts[denial.Layer(layer)] = n
	}
	return counts
}

// lost is what the programs could not tell, nil without programs or before they are loaded.
func (p *programs) lost() map[string]uint64 {
	loaded := p.ready()
	if loaded == nil {
		return nil
	}
	n, err := loaded.Lost()
	if err != nil {
		return nil
	}
	return map[string]uint64{"oom": n.OOM, "exec": n.Exec, "exit": n.Exit, "signal": n.Signal, "denial": n.Denial, "start": n.Start, "last": n.Last}
}

// features says what the programs observe and could be asked for, or why there are none.
func (p *programs) features() []ebpf.Feature {
	switch loaded := p.get(); {
	case loaded != nil:
		return append(loaded.Features(), loaded.SyscallFeatures()...)
	case p.config.Disabled:
		return []ebpf.Feature{{Name: "eBPF", Consequence: "switched off (ebpf.disabled): OOM verdicts rest on the cgroup's counters, senders of signals are unknown"}}
	}
	return ebpf.Features()
}
