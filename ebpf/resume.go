package ebpf

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// builtPrefix begins the name of an empty directory among the pins. It says that every
// map and link there was made by the object whose hash follows, and that all programs
// are attached but those whose tracepoints this kernel has not, which absentPrefix names.
// Such pins are taken over in milliseconds; to load the programs again and
// compare them costs half a second of reading the kernel's types.
const (
	builtPrefix  = "built-"
	absentPrefix = "absent-"
)

func built() string {
	sum := sha256.Sum256(_ProgramsBytes)
	return builtPrefix + hex.EncodeToString(sum[:8])
}

// resume takes over the pins of an earlier life of this very build. False means that the
// ordinary way has to be gone; nothing has changed then.
func (p *Programs) resume() bool {
	if _, err := os.Stat(filepath.Join(p.dir, built())); err != nil {
		return false
	}
	maps, links := map[string]*cebpf.Map{}, []link.Link(nil)
	fail := func() bool {
		for _, m := range maps {
			m.Close()
		}
		for _, l := range links {
			l.Close()
		}
		return false
	}
	for _, name := range pinned {
		m, err := cebpf.LoadPinnedMap(filepath.Join(p.dir, name), nil)
		if err != nil {
			return fail()
		}
		maps[name] = m
	}
	var outcomes []outcome
	for _, f := range families(nil) {
		l, err := link.LoadPinnedLink(filepath.Join(p.dir, "link-"+f.tracepoint), nil)
		if err == nil {
			links, outcomes = append(links, l), append(outcomes, outcome{family: f})
			continue
		}
		if _, none := os.Stat(filepath.Join(p.dir, absentPrefix+f.tracepoint)); none != nil {
			return fail()
		}
		outcomes = append(outcomes, outcome{f, fmt.Errorf("%s: %w", f.tracepoint, errAbsent)})
	}
	p.maps, p.links, p.outcomes = maps, links, outcomes
	return p.findSlots() == nil || fail()
}

// tellBuilt leaves the word for resume: only when nothing is missing that might be had
// another time. Words of other builds are no longer true.
func (p *Programs) tellBuilt() error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return fmt.Errorf("list pins: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), builtPrefix) || strings.HasPrefix(e.Name(), absentPrefix) {
			errs = append(errs, os.Remove(filepath.Join(p.dir, e.Name())))
		}
	}
	for _, o := range p.outcomes {
		switch {
		case errors.Is(o.err, errAbsent):
			errs = append(errs, os.Mkdir(filepath.Join(p.dir, absentPrefix+o.family.tracepoint), 0o700))
		case o.err != nil:
			return errors.Join(errs...)
		}
	}
	return errors.Join(append(errs, os.Mkdir(filepath.Join(p.dir, built()), 0o700))...)
}
