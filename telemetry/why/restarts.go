package why

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// restarts looks for ends of the daemon and of the node in the middle of the pod's life.
func restarts(e *Evidence) []Fact {
	from, to := span(e)
	if from.IsZero() {
		return nil
	}
	lives := slices.Clone(e.Lives)
	slices.SortStableFunc(lives, func(a, b Life) int { return a.Time.Compare(b.Time) })
	var facts []Fact
	for i, l := range lives {
		if l.Ended || i == 0 || l.Time.Before(from) || l.Time.After(to) {
			continue
		}
		before := lives[i-1]
		f := Fact{Time: l.Time, Source: "daemon", Cause: "daemon.restarted", Weight: 0.2, Text: "the daemon was killed and started again; containers went on"}
		switch {
		case l.Boot != before.Boot && l.Boot != "" && before.Boot != "":
			f.Cause, f.Weight, f.Text = "node.rebooted", 0.8, "the node was booted again"
		case before.Ended:
			f.Weight, f.Text = 0.05, "the daemon was restarted in order"
		}
		if cut := interrupted(e, before.Time, l.Time); len(cut) > 0 && !before.Ended {
			f.Weight = max(f.Weight, 0.6)
			f.Text = fmt.Sprintf("the daemon was killed while %s was going on", strings.Join(cut, " and "))
			if f.Cause == "node.rebooted" {
				f.Text = fmt.Sprintf("the node was booted again while %s was going on", strings.Join(cut, " and "))
			}
		}
		facts = append(facts, f)
	}
	return facts
}

// span is the pod's life as far as it is known.
func span(e *Evidence) (from, to time.Time) {
	see := func(t time.Time) {
		if !t.IsZero() && (from.IsZero() || t.Before(from)) {
			from = t
		}
		if t.After(to) {
			to = t
		}
	}
	for _, b := range e.Begun {
		see(b.Time)
	}
	for _, t := range e.Traces {
		start, end := t.Bounds()
		see(time.Unix(0, start))
		see(time.Unix(0, end))
	}
	alive := e.Sandbox == "ready" || len(e.Begun) > 0
	for _, c := range e.Containers {
		see(c.Created)
		see(c.Finished)
		alive = alive || c.Exit == nil
	}
	if alive { // also an attempt that nobody came back to: its end is not known
		see(e.Now)
	}
	return from, to
}

// interrupted names the operations that had begun before a life ended and have no end.
func interrupted(e *Evidence, from, to time.Time) []string {
	var cut []string
	for _, b := range e.Begun {
		if b.Time.Before(from) || b.Time.After(to) || b.Ended || e.removed(b) {
			continue
		}
		name := strings.TrimPrefix(b.Name, "lifecycle.")
		if b.Container != "" {
			name += " of " + b.Container
		}
		if !slices.Contains(cut, name) {
			cut = append(cut, name)
		}
	}
	return cut
}

// removed says that what an operation was to remove is gone: it was done, though the
// note of its end was lost with the daemon.
func (e *Evidence) removed(b Begun) bool {
	switch b.Name {
	case "lifecycle.remove_sandbox":
		return e.Sandbox == "removed"
	case "lifecycle.remove_container":
		return slices.ContainsFunc(e.Containers, func(c Container) bool { return c.Name == b.Container && c.Gone })
	}
	return false
}
