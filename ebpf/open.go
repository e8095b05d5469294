package ebpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Config says where the programs live on.
type Config struct {
	// PinDir is a directory of ours alone. It is made; if it lies in no bpffs, one is
	// mounted on it and stays, since links pinned there must outlive the daemon. Set by
	// the daemon: STATE/bpffs.
	PinDir string `toml:"-"`
	// Disabled loads nothing and detaches what an earlier life attached: verdicts then
	// rest on the cgroups' own counters. false loads what the kernel allows.
	Disabled bool `toml:"disabled"`
	// AllEvents has Events tell execs, exits and signals, too; false leaves them to Last. It is
	// no setting: the reader is then woken for each process of each tracked cgroup.
	AllEvents bool `toml:"-"`
}

// ErrUnavailable is what Open returns, wrapped with the reason, where nothing can be
// observed: the daemon goes on without.
var ErrUnavailable = errors.New("eBPF is not available")

// Programs are the loaded programs with their maps. Its methods are safe for concurrent use.
type Programs struct {
	dir      string
	maps     map[string]*cebpf.Map
	links    []link.Link
	outcomes []outcome
	all      bool // Config.AllEvents

	mu    sync.Mutex // guards the choice of slots
	slots map[uint32]bool

	watching watching
}

// maxContainers is max_entries of the map containers.
const maxContainers = 2048

// Open loads the programs, or takes over those an earlier life left pinned. Programs
// that the kernel refuses are missing afterwards (see Features); if all are, Open fails
// with ErrUnavailable.
func Open(config Config) (*Programs, error) {
	p := &Programs{dir: filepath.Join(config.PinDir, layout), slots: map[uint32]bool{}, all: config.AllEvents}
	if p.resume() {
		return p, nil
	}
	kernel, err := kernelTypes()
	if err != nil {
		return nil, err
	}
	if err := ensureBPFFS(config.PinDir); err != nil {
		return nil, err
	}
	if err := p.open(kernel); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Programs) open(kernel *btf.Spec) error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return fmt.Errorf("directory for pins: %w", err)
	}
	spec, err := loadPrograms()
	if err != nil {
		return fmt.Errorf("read programs: %w", err)
	}
	if p.maps, err = openMaps(spec, p.dir); err != nil {
		return err
	}
	attached := 0
	for _, family := range families(kernel) {
		l, err := p.attach(spec, kernel, family)
		p.outcomes = append(p.outcomes, outcome{family, err})
		if err == nil {
			p.links = append(p.links, l)
			attached++
		}
	}
	if attached == 0 {
		return fmt.Errorf("%w: no program can be attached: %w", ErrUnavailable, p.outcomes[0].err)
	}
	if err := p.tellSettings(kernel); err != nil {
		return err
	}
	if err := errors.Join(forgetOthers(filepath.Dir(p.dir)), p.tellBuilt()); err != nil {
		return fmt.Errorf("pins: %w", err)
	}
	return p.findSlots()
}

// Observes reports whether the program that tells records of this kind is attached.
func (p *Programs) Observes(kind Kind) bool {
	tracepoints := map[Kind]string{OOM: "mark_victim", Exec: "sched_process_exec", Exit: "sched_process_exit", Signal: "signal_generate"}
	for _, o := range p.outcomes {
		if o.family.tracepoint == tracepoints[kind] {
			return o.err == nil
		}
	}
	return false
}

// tellSettings says to mark_victim whether the signal program's notes are there, and what
// it cannot find out about this kernel by itself.
func (p *Programs) tellSettings(kernel *btf.Spec) error {
	signals := false
	for _, o := range p.outcomes {
		if o.family.program == programsProgSignalGenerate && o.err == nil {
			signals = true
		}
	}
	if err := p.maps[programsMapSettings].Put(uint32(0), settings(kernel, signals, p.all)); err != nil {
		return fmt.Errorf("write settings of the programs: %w", err)
	}
	return nil
}

// Close ends this life's use of the programs; they stay attached, see Wipe, but those
// that watch syscalls end.
func (p *Programs) Close() error {
	errs := []error{p.watching.close()}
	for _, l := range p.links {
		errs = append(errs, l.Close())
	}
	for _, m := range p.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// kernelTypes reads the kernel's BTF and tells the two reasons apart for which nothing works.
func kernelTypes() (*btf.Spec, error) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("%w: the kernel describes no types (CONFIG_DEBUG_INFO_BTF): %w", ErrUnavailable, err)
	}
	probe, err := cebpf.NewMap(&cebpf.MapSpec{Type: cebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("%w: no right to load programs (CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN): %w", ErrUnavailable, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return kernel, probe.Close()
}
