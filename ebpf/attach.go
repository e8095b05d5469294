package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// A family is one observation and the program that makes it on this kernel.
type family struct {
	name, program, tracepoint string
	with, without             string
	// function is a program that makes it at the end of the kernel's function of the
	// tracepoint's name, and better, where trampolines work; "" if there is none.
	function string
}

func families(kernel *btf.Spec) []family {
	return []family{
		// The signal program comes first: mark_victim reads its notes.
		{"eBPF signals", programsProgSignalGenerate, "signal_generate",
			"a container's end says who sent the signal", "the sender of a signal is not known", ""},
		{"eBPF OOM kills", markVictim(kernel), "mark_victim",
			"each OOM kill is reported with its victim, the limit that ran out and who held the memory", "OOM kills are counted by the cgroup only, so some verdicts are unknown", ""},
		{"eBPF exec", programsProgProcessExec, "sched_process_exec",
			"processes started in a container are seen", "processes started in a container are not seen", ""},
		{"eBPF exit", programsProgProcessExit, "sched_process_exit",
			"the exit status survives the loss of a monitor", "the exit status of a container whose monitor is lost may be unknown", ""},
		{"eBPF capability denials", programsProgCapCapable, "cap_capable",
			"capabilities that a container lacks and asks for are in its ledger", "a missing capability is told only while denied syscalls are watched", programsProgCapCapableExit},
		{"eBPF SELinux denials", programsProgSelinuxAudited, "selinux_audited",
			"SELinux denials are in a container's ledger", "SELinux denials are not told", ""},
		{"eBPF start", programsProgInetSockSetState, "inet_sock_set_state",
			"a container's first listening port and first connection are timed", "a container's first listening port and first connection are not timed", ""},
	}
}

// markVictim chooses by the tracepoint's arguments, since both programs load everywhere
// and the wrong one reads garbage.
func markVictim(kernel *btf.Spec) string {
	if tracepointHasTask(kernel, "mark_victim") {
		return programsProgMarkVictim
	}
	return programsProgMarkVictimPid
}

// tracepointHasTask reports whether a tracepoint's first argument is a pointer: to a
// task, as all tracepoints of ours with a pointer there have it.
func tracepointHasTask(kernel *btf.Spec, name string) bool {
	proto := tracepoint(kernel, name)
	// The first parameter is the caller's data.
	if proto == nil || len(proto.Params) < 2 {
		return false
	}
	_, pointer := btf.UnderlyingType(proto.Params[1].Type).(*btf.Pointer)
	return pointer
}

// tracepoint returns the prototype of a tracepoint's probe, nil if the kernel has none.
func tracepoint(kernel *btf.Spec, name string) *btf.FuncProto {
	if kernel == nil {
		return nil // nobody asked what the kernel has
	}
	var t *btf.Typedef
	if err := kernel.TypeByName("btf_trace_"+name, &t); err != nil {
		return nil
	}
	pointer, ok := t.Type.(*btf.Pointer)
	if !ok {
		return nil
	}
	proto, _ := pointer.Target.(*btf.FuncProto)
	return proto
}

var errAbsent = errors.New("the kernel has no such tracepoint")

// attach brings one program to its tracepoint. A pinned link of the same program is kept;
// one of another version ends only after ours has begun, so nothing is missed, and an
// event in between is told twice.
func (p *Programs) attach(spec *cebpf.CollectionSpec, kernel *btf.Spec, f family) (link.Link, error) {
	program, err := p.choose(spec, kernel, f)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	pin := filepath.Join(p.dir, "link-"+f.tracepoint)
	old, err := link.LoadPinnedLink(pin, nil)
	if err == nil {
		if same(old, program) {
			return old, nil
		}
		defer old.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pinned link of %s: %w", f.tracepoint, err)
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: program})
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", f.tracepoint, err)
	}
	if err := os.Remove(pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("pinned link of %s: %w", f.tracepoint, err), l.Close())
	}
	if err := l.Pin(pin); err != nil {
		return nil, errors.Join(fmt.Errorf("pin link of %s: %w", f.tracepoint, err), l.Close())
	}
	return l, nil
}

// choose loads the better of a family's programs that the kernel takes.
func (p *Programs) choose(spec *cebpf.CollectionSpec, kernel *btf.Spec, f family) (*cebpf.Program, error) {
	var refused error
	if f.function != "" {
		program, err := p.load(spec, f.function)
		if err == nil {
			return program, nil
		}
		refused = err
	}
	if tracepoint(kernel, f.tracepoint) == nil {
		return nil, errors.Join(refused, fmt.Errorf("%s: %w", f.tracepoint, errAbsent))
	}
	return p.load(spec, f.program)
}

// load loads one program alone, so that one refusal costs one observation.
func (p *Programs) load(spec *cebpf.CollectionSpec, name string) (*cebpf.Program, error) {
	one := spec.Copy()
	one.Programs = map[string]*cebpf.ProgramSpec{name: one.Programs[name]}
	one.Variables = nil
	for m := range one.Maps {
		if p.maps[m] == nil { // a section of variables that only the generator reads
			delete(one.Maps, m)
		}
	}
	loaded, err := cebpf.NewCollectionWithOptions(one, cebpf.CollectionOptions{MapReplacements: p.maps})
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", name, err)
	}
	defer loaded.Close()
	return loaded.DetachProgram(name), nil
}

// same reports whether a link's program has the instructions of ours. Not knowing is no.
func same(l link.Link, ours *cebpf.Program) bool {
	info, err := l.Info()
	if err != nil {
		return false
	}
	theirs, err := cebpf.NewProgramFromID(info.Program)
	if err != nil {
		return false
	}
	defer theirs.Close()
	a, err := theirs.Info()
	if err != nil {
		return false
	}
	b, err := ours.Info()
	return err == nil && a.Tag == b.Tag
}
