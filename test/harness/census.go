package harness

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Census is everything on the host that carries an instance's mark, by kind. Each
// item is a line that a person can act on; a diff of two censuses says what was
// left behind. Numbers (fds, goroutines) are kept apart, because they breathe.
type Census struct {
	Items  map[Kind][]string
	Counts map[string]int
}

// Kind is one class of things that a runtime can leave behind.
type Kind string

// The kinds, in the order in which a diff prints them.
const (
	Processes Kind = "process"
	Mounts    Kind = "mount"
	Netns     Kind = "netns"
	Cgroups   Kind = "cgroup"
	Links     Kind = "link"
	Rules     Kind = "iptables"
	Leases    Kind = "lease"
	Layers    Kind = "layer"
	Files     Kind = "file"
	// Pins are the eBPF programs and maps that the instance keeps in the kernel: they
	// outlive its daemon on purpose, and no wipe.
	Pins Kind = "pin"
	// Furniture is made for the first pod and kept for the next: the network's bridge
	// and its masquerading. It is no difference; Remains tells whether it is gone.
	Furniture Kind = "furniture"
)

var kinds = []Kind{Processes, Mounts, Netns, Cgroups, Links, Rules, Leases, Layers, Files, Pins}

// takers are how each kind is taken.
var takers = map[Kind]func(*Instance) ([]string, error){
	Processes: takeProcesses,
	Mounts:    takeMounts,
	Netns:     takeNetns,
	Cgroups:   takeCgroups,
	Links:     takeLinks,
	Rules:     takeRules,
	Leases:    takeLeases,
	Layers:    takeLayers,
	Files:     takeFiles,
	Pins:      takePins,
	Furniture: takeFurniture,
}

// Census takes the instance's census.
func (in *Instance) Census() (*Census, error) {
	c := &Census{Items: map[Kind][]string{}, Counts: map[string]int{}}
	for kind, take := range takers {
		items, err := take(in)
		if err != nil {
			return nil, fmt.Errorf("census of %s: %w", kind, err)
		}
		slices.Sort(items)
		c.Items[kind] = items
	}
	return c, nil
}

// Census is the instance's census with the daemon's own fds, threads and goroutines.
func (d *Daemon) Census() (*Census, error) {
	if err := d.settle(); err != nil {
		return nil, err
	}
	c, err := d.Instance.Census()
	if err != nil {
		return nil, err
	}
	if pid := d.PID(); pid != 0 {
		if err := countDaemon(d, pid, c.Counts); err != nil {
			return nil, fmt.Errorf("census of the daemon: %w", err)
		}
	}
	return c, nil
}

// idleThreads is how many threads more than before the daemon may have: Go keeps each
// that was once blocked beside the others in a system call, more of them on a busier
// machine. A thread that is lost per operation exceeds it in the long runs.
const idleThreads = 40

// Difference lists what after has and before has not, and the reverse, as lines
// "+ kind: item" and "- kind: item"; empty means that nothing changed. Counts are
// reported when they grew by more than slack.
func Difference(before, after *Census, slack int) string {
	var out strings.Builder
	for _, kind := range kinds {
		was, is := tally(before.Items[kind]), tally(after.Items[kind])
		for _, item := range slices.Sorted(maps.Keys(is)) {
			for range is[item] - was[item] {
				fmt.Fprintf(&out, "+ %s: %s\n", kind, item)
			}
		}
		for _, item := range slices.Sorted(maps.Keys(was)) {
			for range was[item] - is[item] {
				fmt.Fprintf(&out, "- %s: %s\n", kind, item)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after.Counts)) {
		allowed := slack
		if name == "threads" {
			allowed += idleThreads
		}
		if was, is := before.Counts[name], after.Counts[name]; is > was+allowed {
			fmt.Fprintf(&out, "+ daemon's %s: %d, were %d\n", name, is, was)
		}
	}
	return out.String()
}

// Left is Difference once it is empty, or what it still says at the end of wait:
// removal is allowed to finish a moment after the answer, not to forget.
func (d *Daemon) Left(ctx context.Context, before *Census, slack int, wait time.Duration) (string, error) {
	deadline := time.Now().Add(Scale(wait))
	for {
		after, err := d.Census()
		if err != nil {
			return "", err
		}
		diff := Difference(before, after, slack)
		if diff == "" || time.Now().After(deadline) {
			return diff, ctx.Err()
		}
		select {
		case <-ctx.Done():
			return diff, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Summary is one line of counts per kind, for narration.
func (c *Census) Summary() string {
	parts := make([]string, 0, len(kinds))
	for _, kind := range append(slices.Clone(kinds), Furniture) {
		parts = append(parts, fmt.Sprintf("%s %d", kind, len(c.Items[kind])))
	}
	return strings.Join(parts, " · ")
}

func tally(items []string) map[string]int {
	m := make(map[string]int, len(items))
	for _, item := range items {
		m[item]++
	}
	return m
}
