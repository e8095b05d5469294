package ebpf

import (
	"errors"
	"fmt"
	"strings"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// An observer is the object of bpf/syscalls.c, loaded: its maps, its programs, and the
// links of those that are attached. It is used under the lock of watching.
type observer struct {
	maps     map[string]*cebpf.Map
	programs map[string]*cebpf.Program
	links    map[string]link.Link
	epoch    *cebpf.Variable
	choice
	changes uint32
	// used holds the slots that somebody had before, whose counts are not nothing.
	used map[uint32]bool
}

// choice is what a kernel takes of the programs.
type choice struct {
	// capable is the program that notes missing capabilities; "" if the kernel takes none.
	capable string
	// withoutEntry is why there is no program at the beginning of system calls; nil if there is.
	withoutEntry error
}

func newObserver(p *Programs) (*observer, error) {
	spec, err := loadSyscalls()
	if err != nil {
		return nil, fmt.Errorf("read programs: %w", err)
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, err
	}
	shared := map[string]*cebpf.Map{}
	for name := range spec.Maps {
		if m := p.maps[name]; m != nil {
			shared[name] = m
		}
	}
	// As for the ledger: the function's end where it can be had, else the tracepoint.
	choices := []choice{{capable: syscallsProgWatchCapableExit}}
	if tracepoint(kernel, "cap_capable") != nil {
		choices = append(choices, choice{capable: syscallsProgWatchCapable})
	}
	choices = append(choices, choice{}, choice{})
	if p.watching.chosen != nil { // it costs as much to be refused as to be taken
		choices = []choice{*p.watching.chosen}
	}
	for i, c := range choices {
		if i == len(choices)-1 && i > 0 { // the last resort: what only counts
			c.withoutEntry = err
		}
		one := spec.Copy()
		for _, name := range []string{syscallsProgWatchCapableExit, syscallsProgWatchCapable} {
			if name != c.capable {
				delete(one.Programs, name)
			}
		}
		if c.withoutEntry != nil {
			delete(one.Programs, syscallsProgSysEnter)
		}
		var loaded *cebpf.Collection
		loaded, err = cebpf.NewCollectionWithOptions(one, cebpf.CollectionOptions{MapReplacements: shared})
		if err != nil {
			continue
		}
		o := &observer{maps: loaded.Maps, programs: loaded.Programs, links: map[string]link.Link{},
			epoch: loaded.Variables[syscallsVarEpoch], choice: c, changes: 1, used: map[uint32]bool{}}
		if err := o.tellPaths(); err != nil {
			return nil, errors.Join(err, o.close())
		}
		p.watching.chosen = &c
		return o, nil
	}
	return nil, fmt.Errorf("load programs: %w", err)
}

// close detaches and unloads everything. The maps shared with p are copies of its own.
func (o *observer) close() error {
	var errs []error
	for _, l := range o.links {
		errs = append(errs, l.Close())
	}
	for _, p := range o.programs {
		errs = append(errs, p.Close())
	}
	for _, m := range o.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// tellPaths says which argument of a syscall is a path.
func (o *observer) tellPaths() error {
	for number, name := range syscallNames {
		if n := pathArgument(name); n > 0 && number < int(syscallsBoundOTHERS) {
			if err := o.maps[syscallsMapPaths].Put(uint32(number), uint32(n)); err != nil {
				return fmt.Errorf("paths of syscalls: %w", err)
			}
		}
	}
	return nil
}

// pathArgument tells which argument of a syscall is the path that may be refused, from
// 1; 0 if it has none. Of two paths it is the one among the first three arguments.
func pathArgument(name string) int {
	switch name {
	case "open", "creat", "stat", "lstat", "access", "chdir", "mkdir", "rmdir", "unlink", "chmod", "chown", "lchown",
		"truncate", "mknod", "readlink", "execve", "utime", "utimes", "statfs", "chroot", "umount2", "swapon", "swapoff",
		"acct", "setxattr", "lsetxattr", "removexattr", "lremovexattr", "getxattr", "lgetxattr":
		return 1
	case "rename", "link", "symlink", "mount", "pivot_root", "openat", "openat2", "mkdirat", "unlinkat", "fchmodat",
		"fchmodat2", "fchownat", "mknodat", "newfstatat", "faccessat", "faccessat2", "readlinkat", "execveat", "utimensat",
		"futimesat", "statx", "inotify_add_watch", "name_to_handle_at", "open_tree",
		"renameat", "renameat2", "linkat", "move_mount":
		return 2
	case "symlinkat":
		return 3
	}
	return 0
}

// begin prepares a slot and makes the cgroup its owner.
func (o *observer) begin(slot uint32, cgroup uint64) error {
	if o.used[slot] {
		if err := o.clear(slot); err != nil {
			return err
		}
	}
	o.used[slot] = true
	if err := o.maps[syscallsMapWatches].Put(slot, syscallsWatch{Cgroup: cgroup, Slot: slot}); err != nil {
		return fmt.Errorf("slot %d: %w", slot, err)
	}
	if err := o.maps[syscallsMapWatched].Put(cgroup, slot); err != nil {
		return fmt.Errorf("slot %d: %w", slot, err)
	}
	return o.changed()
}

func (o *observer) end(cgroup uint64) error {
	return errors.Join(o.maps[syscallsMapWatched].Delete(cgroup), o.changed())
}

// changed makes the programs look again who is watched.
func (o *observer) changed() error {
	o.changes++
	if err := o.epoch.Set(o.changes); err != nil {
		return fmt.Errorf("tell the programs of a change: %w", err)
	}
	return nil
}

func (o *observer) clear(slot uint32) error {
	cpus, err := cebpf.PossibleCPU()
	if err != nil {
		return err
	}
	none := make([]syscallsTally, cpus)
	for n := range uint32(syscallsBoundSYSCALLS) {
		if err := o.maps[syscallsMapTallies].Put(slot*uint32(syscallsBoundSYSCALLS)+n, none); err != nil {
			return fmt.Errorf("clear slot %d: %w", slot, err)
		}
		err := o.maps[syscallsMapLatencies].Delete(syscallsLatencyKey{Slot: slot, Syscall: n})
		if err != nil && !errors.Is(err, cebpf.ErrKeyNotExist) {
			return fmt.Errorf("clear slot %d: %w", slot, err)
		}
	}
	for n := range uint32(syscallsBoundFLIGHT) {
		if err := o.maps[syscallsMapFlight].Put(slot*uint32(syscallsBoundFLIGHT)+n, syscallsCall{}); err != nil {
			return fmt.Errorf("clear slot %d: %w", slot, err)
		}
	}
	return o.maps[syscallsMapWants].Put(slot, syscallsWant{})
}

// ask says what is wanted of a slot, and leaves the rest of it as it is.
func (o *observer) ask(slot, flags, sample uint32) error {
	var a syscallsWant
	if err := o.maps[syscallsMapWants].Lookup(slot, &a); err != nil {
		return fmt.Errorf("slot %d: %w", slot, err)
	}
	a.Flags, a.Sample = flags, sample
	if err := o.maps[syscallsMapWants].Put(slot, a); err != nil {
		return fmt.Errorf("slot %d: %w", slot, err)
	}
	return nil
}

// alreadyStarted says so to the programs if PID 1 has executed something.
func (o *observer) alreadyStarted(p *Programs, slot uint32, cgroup uint64) (bool, error) {
	s, err := p.StartProfile(cgroup)
	if err != nil || s.Exec == 0 {
		return false, err
	}
	var a syscallsWant
	if err := o.maps[syscallsMapWants].Lookup(slot, &a); err != nil {
		return true, fmt.Errorf("slot %d: %w", slot, err)
	}
	a.Started = 1
	if err := o.maps[syscallsMapWants].Put(slot, a); err != nil {
		return true, fmt.Errorf("slot %d: %w", slot, err)
	}
	return true, nil
}

// attach attaches the programs that the wanted flags need, and detaches the others.
func (o *observer) attach(flags uint32) error {
	need := map[string]bool{syscallsProgSysExit: true, syscallsProgWatchExec: true, syscallsProgWatchExit: true}
	if flags&uint32(syscallsWatchingWATCH_ENTRY) != 0 {
		need[syscallsProgSysEnter] = true
	}
	if flags&uint32(syscallsWatchingWATCH_DENIALS) != 0 && o.capable != "" {
		need[o.capable] = true
	}
	var errs []error
	if need[syscallsProgSysEnter] && o.withoutEntry != nil {
		errs = append(errs, fmt.Errorf("attach sys enter: %w", o.withoutEntry))
	}
	for name := range o.programs {
		l := o.links[name]
		switch {
		case need[name] && l == nil:
			l, err := link.AttachTracing(link.TracingOptions{Program: o.programs[name]})
			if err != nil {
				errs = append(errs, fmt.Errorf("attach %s: %w", strings.ReplaceAll(name, "_", " "), err))
				continue
			}
			o.links[name] = l
		case !need[name] && l != nil:
			errs = append(errs, l.Close())
			delete(o.links, name)
		}
	}
	return errors.Join(errs...)
}
