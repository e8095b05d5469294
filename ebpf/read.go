package ebpf

import (
	"context"
	"errors"
	"fmt"
	"os"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// Last holds the last record of each kind about a cgroup; nil where there was none.
type Last struct {
	OOM, Exit, Signal *Record
	// Init holds those about PID 1, whatever happened to others later.
	InitOOM, InitExec, InitExit, InitSignal *Record
	// OOMKills counts the processes of the container that the OOM killer ended.
	OOMKills uint64
}

// Last is the last record of each kind, of the cgroup and of its PID 1; exact also when events
// were lost. A cgroup that is not tracked has nothing, which is no error.
func (p *Programs) Last(cgroup uint64) (Last, error) {
	var l Last
	for _, want := range []struct {
		into **Record
		kind Kind
		init uint32
	}{
		{&l.OOM, OOM, 0}, {&l.Exit, Exit, 0}, {&l.Signal, Signal, 0},
		{&l.InitOOM, OOM, 1}, {&l.InitExec, Exec, 1}, {&l.InitExit, Exit, 1}, {&l.InitSignal, Signal, 1},
	} {
		key := programsLastKey{Cgroup: cgroup, Kind: uint32(want.kind), Init: want.init}
		raw, err := p.maps[programsMapLast].LookupBytes(key)
		if err != nil {
			return l, fmt.Errorf("last records of cgroup %d: %w", cgroup, err)
		}
		if raw == nil {
			continue
		}
		r, err := Decode(raw)
		if err != nil {
			return l, fmt.Errorf("last records of cgroup %d: %w", cgroup, err)
		}
		if r.OOM != nil {
			scene, err := p.maps[programsMapScenes].LookupBytes(key)
			if err != nil {
				return l, fmt.Errorf("scene of a kill in cgroup %d: %w", cgroup, err)
			}
			if scene != nil {
				r.OOM.see(scene)
			}
		}
		*want.into = &r
	}
	var c programsContainer
	err := p.maps[programsMapContainers].Lookup(cgroup, &c)
	if err != nil && !errors.Is(err, cebpf.ErrKeyNotExist) {
		return l, fmt.Errorf("OOM kills of cgroup %d: %w", cgroup, err)
	}
	l.OOMKills = c.OomKills
	return l, nil
}

// LastFD is the map of last records, for a monitor's raw look-ups (struct last_key →
// struct record, bpf/records.h). It belongs to p.
func (p *Programs) LastFD() int { return p.maps[programsMapLast].FD() }

// Events calls handle for each record but those that Config.AllEvents is about, in the
// order of the kernel, until ctx ends. One
// reader at a time: a record goes to one of them. What happened while nobody read waits,
// as long as the ring has room. handle must be quick: while it runs, the ring fills.
func (p *Programs) Events(ctx context.Context, handle func(Record)) error {
	reader, err := ringbuf.NewReader(p.maps[programsMapEvents])
	if err != nil {
		return fmt.Errorf("read eBPF events: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { reader.Close() })
	defer func() {
		if stop() {
			reader.Close()
		}
	}()
	var raw ringbuf.Record
	for {
		err := reader.ReadInto(&raw)
		if errors.Is(err, os.ErrClosed) {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("read eBPF events: %w", err)
		}
		r, err := Decode(raw.RawSample)
		if err != nil {
			return err
		}
		handle(r)
	}
}

// Loss counts what was not told.
type Loss struct {
	// Events found the ring full. Their record lies in Last all the same.
	OOM, Exec, Exit, Signal, Denial, Start uint64
	// Last counts records that found no place in the map of last records.
	Last uint64
}

// Lost sums the loss since the programs were first attached.
func (p *Programs) Lost() (Loss, error) {
	var l Loss
	for kind, into := range []*uint64{&l.Last, &l.OOM, &l.Exec, &l.Exit, &l.Signal, &l.Denial, &l.Start} {
		var perCPU []uint64
		if err := p.maps[programsMapLost].Lookup(uint32(kind), &perCPU); err != nil {
			return l, fmt.Errorf("count of lost events: %w", err)
		}
		for _, n := range perCPU {
			*into += n
		}
	}
	return l, nil
}
