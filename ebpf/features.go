package ebpf

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/cgroup"
)

// Feature is one line of `vitrine check`. Its consequence begins with "refused" if the
// kernel or our rights do not allow it, with "absent" if the kernel lacks it.
type Feature = cgroup.Feature

type outcome struct {
	family family
	err    error
}

func (o outcome) feature() Feature {
	switch {
	case o.err == nil:
		return Feature{Name: o.family.name, OK: true, Consequence: o.family.with}
	case errors.Is(o.err, errAbsent):
		return Feature{Name: o.family.name, Consequence: fmt.Sprintf("absent: %s (%v)", o.family.without, o.err)}
	case errors.Is(o.err, unix.EPERM) || errors.Is(o.err, unix.EACCES):
		return Feature{Name: o.family.name, Consequence: fmt.Sprintf("refused by kernel or rights: %s (%v)", o.family.without, o.err)}
	}
	return Feature{Name: o.family.name, Consequence: fmt.Sprintf("refused: %s (%v)", o.family.without, o.err)}
}

// Features says what these programs, which are always attached, observe.
func (p *Programs) Features() []Feature {
	var features []Feature
	for _, o := range p.outcomes {
		features = append(features, o.feature())
	}
	return features
}

// Features tries it out: it loads and attaches all programs for a moment, on a bpffs of
// its own, and leaves nothing behind.
func Features() []Feature {
	dir, err := os.MkdirTemp("", "vitrine-bpf")
	if err != nil {
		return []Feature{{Name: "eBPF", Consequence: "not tried: " + err.Error()}}
	}
	defer os.Remove(dir)
	p, err := Open(Config{PinDir: dir})
	defer Wipe(dir)
	if err != nil {
		return []Feature{{Name: "eBPF", Consequence: "refused or absent: OOM verdicts rest on the cgroup's counters, senders of signals are unknown (" + err.Error() + ")"}}
	}
	features := append(p.Features(), p.SyscallFeatures()...)
	p.Close()
	return features
}
