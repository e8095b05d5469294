package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// plugins are the CNI plugins of one target, each behind a stopwatch. What they take is
// the same program at every runtime; what is left of a pod's start and end is the
// runtime's own.
//
//	DIR/                the target's directory of plugins
//	├── bridge, …       stopwatch
//	├── host-local      the plugin itself: bridge runs it, inside its own time
//	├── of/             the plugins
//	└── times           a line for each execution, see stopwatch.c
type plugins struct{ dir string }

// delegates are plugins that other plugins run.
var delegates = []string{"host-local"}

// newPlugins puts stopwatches before the plugins in bin.
func newPlugins(bin string) (_ *plugins, err error) {
	p := &plugins{}
	root, err := harness.Root()
	if err != nil {
		return nil, err
	}
	if p.dir, err = os.MkdirTemp("", "plugins"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	watch := filepath.Join(p.dir, "of", "stopwatch")
	if err := os.Mkdir(filepath.Dir(watch), 0o755); err != nil {
		return nil, err
	}
	if out, err := exec.Command(filepath.Join(root, "test/bench/stopwatch/build"), watch).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build stopwatch: %w\n%s", err, out)
	}
	entries, err := os.ReadDir(bin)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		before := watch
		if slices.Contains(delegates, e.Name()) {
			before = filepath.Join(bin, e.Name())
		}
		if err := errors.Join(
			os.Symlink(filepath.Join(bin, e.Name()), filepath.Join(p.dir, "of", e.Name())),
			os.Symlink(before, filepath.Join(p.dir, e.Name()))); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *plugins) close() error { return os.RemoveAll(p.dir) }

// execution is one run of a plugin: its time on a clock that all of them share.
type execution struct{ from, to time.Duration }

// take returns the executions since it was last called, by sandbox and command. No
// plugin may be running.
func (p *plugins) take() (map[string]map[string][]execution, error) {
	path := filepath.Join(p.dir, "times")
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[string]map[string][]execution{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var command, id, plugin string
		var one execution
		if _, err := fmt.Sscan(lines.Text(), &command, &id, &plugin, &one.from, &one.to); err != nil || one.to < one.from {
			return nil, fmt.Errorf("%s: line %q is none of a stopwatch: %v", path, lines.Text(), err)
		}
		if all[id] == nil {
			all[id] = map[string][]execution{}
		}
		all[id][command] = append(all[id][command], one)
	}
	return all, errors.Join(lines.Err(), os.Remove(path))
}

// together is the time in which at least one of the executions ran: a runtime that runs
// two at a time waits for them once.
func together(all []execution) (sum time.Duration) {
	all = slices.SortedFunc(slices.Values(all), func(a, b execution) int { return int(a.from - b.from) })
	var until time.Duration
	for _, one := range all {
		sum += max(0, one.to-max(one.from, until))
		until = max(until, one.to)
	}
	return sum
}

// addBeside tells the plugins' time and what is left for each cycle of a cell. No trace of
// a plugin would make the rest too large, and is an error.
func (p *plugins) addBeside(target string, r *report, cell string, cycles []cycle) error {
	runs, err := p.take()
	if err != nil {
		return err
	}
	for _, c := range cycles {
		for _, end := range []struct {
			name, command string
			took          time.Duration
		}{{"pod up", "ADD", c.up}, {"pod down", "DEL", c.down}} {
			ran := together(runs[c.sandbox][end.command])
			if ran == 0 || ran > end.took {
				return fmt.Errorf("%s of %s took %v, and the plugins' %s %v of it: not a measurement", end.name, c.sandbox, end.took, end.command, ran)
			}
			r.add(target, cell+" "+end.name+", the plugins", milliseconds, ran.Seconds()*1000)
			r.add(target, cell+" "+end.name+" beside the plugins", milliseconds, (end.took-ran).Seconds()*1000)
		}
	}
	return nil
}
