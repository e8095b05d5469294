package ebpf

import (
	"errors"
	"fmt"

	cebpf "github.com/cilium/ebpf"
)

// Track begins to observe the cgroup and those below it. It must come before the
// container's first instruction. Tracking a tracked cgroup changes nothing.
func (p *Programs) Track(cgroup uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	slot := uint32(0)
	for p.slots[slot] {
		slot++
	}
	err := p.maps[programsMapContainers].Update(cgroup, programsContainer{Slot: slot}, cebpf.UpdateNoExist)
	if errors.Is(err, cebpf.ErrKeyExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("track cgroup %d (of at most %d): %w", cgroup, maxContainers, err)
	}
	p.slots[slot] = true
	return nil
}

// SetInit says which process is the container's PID 1, by its host pid. Before, PID 1 is
// who is number 1 of its pid namespace, which is wrong for containers that share one.
func (p *Programs) SetInit(cgroup uint64, pid int) error {
	var c programsContainer
	if err := p.maps[programsMapContainers].Lookup(cgroup, &c); err != nil {
		return fmt.Errorf("init of cgroup %d: %w", cgroup, err)
	}
	c.Init = uint32(pid)
	if err := p.maps[programsMapContainers].Update(cgroup, c, cebpf.UpdateExist); err != nil {
		return fmt.Errorf("init of cgroup %d: %w", cgroup, err)
	}
	return nil
}

// Untrack ends the observation and forgets the cgroup's last records, ledger
// and start. An unknown cgroup is no error.
func (p *Programs) Untrack(cgroup uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var c programsContainer
	err := p.maps[programsMapContainers].Lookup(cgroup, &c)
	if errors.Is(err, cebpf.ErrKeyNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("untrack cgroup %d: %w", cgroup, err)
	}
	errs := []error{p.maps[programsMapContainers].Delete(cgroup), p.forget(cgroup)}
	for kind := OOM; kind <= Signal; kind++ {
		for _, init := range []uint32{0, 1} {
			key := programsLastKey{Cgroup: cgroup, Kind: uint32(kind), Init: init}
			err := p.maps[programsMapLast].Delete(key)
			if !errors.Is(err, cebpf.ErrKeyNotExist) {
				errs = append(errs, err)
			}
			if kind != OOM {
				continue
			}
			if err := p.maps[programsMapScenes].Delete(key); !errors.Is(err, cebpf.ErrKeyNotExist) {
				errs = append(errs, err)
			}
		}
	}
	delete(p.slots, c.Slot)
	return errors.Join(errs...)
}

// Tracked lists the tracked cgroups: after a restart, those of the earlier life.
func (p *Programs) Tracked() ([]uint64, error) {
	var cgroups []uint64
	err := p.each(func(cgroup uint64, _ programsContainer) { cgroups = append(cgroups, cgroup) })
	return cgroups, err
}

func (p *Programs) findSlots() error {
	return p.each(func(_ uint64, c programsContainer) { p.slots[c.Slot] = true })
}

func (p *Programs) each(visit func(uint64, programsContainer)) error {
	var cgroup uint64
	var c programsContainer
	it := p.maps[programsMapContainers].Iterate()
	for it.Next(&cgroup, &c) {
		visit(cgroup, c)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("list tracked cgroups: %w", err)
	}
	return nil
}
