// Package why finds the cause of what happened to a pod or container. It is pure: the
// daemon collects the evidence, Judge turns it into a verdict, and both are plain
// values.
//
// Evidence becomes facts, each with its time, its source and a weight: how strongly it
// speaks for one cause. A cause is named by where it lies and what it is, for example
// network.slow or image.auth; both are derived from the step that failed or took the
// time, the class of its error and the words of its message, so that a step nobody
// thought of still leads to a cause that names it. Causes are ranked by their facts
// together.
package why

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/history"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// Evidence is what is known about a pod, or about one container of it.
type Evidence struct {
	// Pod is namespace/name, or the image that is asked about; Container is the one that
	// is asked about, empty for all. The others are empty where there is no pod.
	Pod, Container       string
	Namespace, Name, UID string
	Now                  time.Time
	// Traces are calls about the pod and pulls of its images, whole or their key steps.
	Traces []*waterfall.Trace
	// Begun are operations that have begun, ended or not.
	Begun []Begun
	// Containers are the pod's, attempts that are gone included, the oldest first.
	Containers []Container
	// Sandbox is the pod's last known state; empty: it never became one.
	Sandbox string
	// Lives are the beginnings and orderly ends of the daemon.
	Lives []Life
}

// Begun is an operation that has begun, by the name of its span.
type Begun struct {
	Time      time.Time
	Name      string
	Container string
	// Ended: its end was seen, whatever came of it.
	Ended bool
}

// Life is one end of a daemon's life; Boot names the boot of the kernel.
type Life struct {
	Time  time.Time
	Boot  string
	Ended bool
}

// Container is one container as far as it is known.
type Container struct {
	Name, ID, Image            string
	Attempt                    uint32
	State                      pod.State
	Created, Started, Finished time.Time
	// Stopped: a stop had been asked for when it ended.
	Stopped bool
	// Gone: it was removed. Lost: it was not, and is not there any more either, as after a
	// boot of the node; how it ended is on no record.
	Gone    bool
	Lost    bool
	Exit    *pod.Exit
	Figures history.Figures
	// Process is the state letter of PID 1 (proc(5)), Wait the kernel function it
	// sleeps in; Monitor the state letter of its monitor. Empty: not known.
	Process, Wait, Monitor string
	// Frozen says which cgroup stands still, empty when none does: "its cgroup", or "a
	// cgroup above its own".
	Frozen string
	// Zombies are children of PID 1 that have ended and that it has not waited for.
	Zombies int
	// LogGone: the log is not there any more under its name, and is written all the same.
	LogGone bool
	// LogBytes were written to the log, LogDropped were lost, so far.
	LogBytes, LogDropped int64
	// LogPath is where its log is, or was; empty: discarded, or not known.
	LogPath string
	// Denials are what it was refused, of AllDenials different things.
	Denials    []pod.Denial
	AllDenials int
	// Life is what else befell it, and what it followed from.
	Life history.Life
	// Calls are its last system calls, if it had a flight recorder and failed.
	Calls []pod.Call
}

// Fact is one piece of evidence.
type Fact struct {
	Time time.Time `json:"time,omitzero"`
	// Source is where it comes from: trace, exit, denial, cgroup, exec, log, process, flight, daemon.
	Source string `json:"source"`
	Text   string `json:"text"`
	// Cause is what it speaks for, and Weight how strongly: 0 to 1.
	Cause     string  `json:"cause"`
	Weight    float64 `json:"weight"`
	Container string  `json:"container,omitempty"`
	// sentence is that of the cause, if this is its strongest fact; empty: Text.
	sentence string
	// next is the cause's next step then; empty: that of its name.
	next string
}

// Cause is a possible explanation.
type Cause struct {
	// Name is where.what, for example image.auth; see docs/incidents.md.
	Name      string  `json:"name"`
	Container string  `json:"container,omitempty"`
	Sentence  string  `json:"sentence"`
	Next      string  `json:"next"`
	Score     float64 `json:"score"`
	Facts     []Fact  `json:"facts"`
}

// Verdict is the answer.
type Verdict struct {
	Subject string `json:"subject"`
	// State is one sentence about how things stand.
	State string `json:"state"`
	// Cause is the best explanation; its name is "none" when nothing is wrong as far
	// as the node can see.
	Cause Cause `json:"cause"`
	// Others are further explanations, the strongest first.
	Others []Cause `json:"others,omitempty"`
}

// None is the name of the cause when nothing is wrong.
const None = "none"

// threshold is the score below which a cause is not worth telling.
const threshold = 0.15

// Judge finds the cause.
func Judge(e Evidence) Verdict {
	var facts []Fact
	for _, collect := range []func(*Evidence) []Fact{calls, exits, denials, figures, processes, commands, restarts} {
		facts = append(facts, collect(&e)...)
	}
	if e.Container != "" {
		facts = slices.DeleteFunc(facts, func(f Fact) bool { return f.Container != "" && f.Container != e.Container })
	}
	v := Verdict{Subject: e.Pod, State: state(&e)}
	if e.Container != "" {
		v.Subject += "/" + e.Container
	}
	causes := rank(explained(facts))
	if len(causes) == 0 {
		v.Cause = Cause{Name: None, Sentence: "nothing is wrong as far as the node can see", Facts: facts,
			Next: "if something is slow or wrong all the same, look at the program itself: kubectl logs, and vitrine trace for the time of its calls"}
		return v
	}
	v.Cause, v.Others = causes[0], causes[1:]
	return v
}

// standstill are causes for which a program comes too late with everything else.
var standstill = []string{"cpu.throttled", "cpu.pressure", "memory.pressure", "io.pressure", "process.frozen", "process.stopped", "process.stuck", "log.blocked", "monitor.stopped"}

// unmoved are causes for which a container does not end either.
var unmoved = []string{"process.frozen", "process.stopped", "process.stuck", "monitor.stopped", "stop.killed", "stop.hook"}

// ended is the weight from which on an end wants an explanation.
const ended = 0.45

// explained takes weight from what follows from something else: that the probes of a
// container fail which stands still most of its time is no cause beside that, and that a
// stop takes long of one that does not end.
func explained(facts []Fact) []Fact {
	// A call that took its time and succeeded is not why something ended that was begun by it.
	if slices.ContainsFunc(facts, func(f Fact) bool { return f.Source == "exit" && f.Weight >= ended }) {
		for i, f := range facts {
			if f.Source == "trace" && strings.HasSuffix(f.Cause, ".slow") {
				facts[i].Weight = min(f.Weight, ended*0.75)
			}
		}
	}
	for _, stall := range facts {
		var follows []string
		if stall.Weight >= 0.5 && slices.Contains(standstill, stall.Cause) {
			follows = append(follows, "probe.")
		}
		if slices.Contains(unmoved, stall.Cause) {
			follows = append(follows, "stop.slow", "stop.hanging")
		}
		for i, f := range facts {
			late := slices.ContainsFunc(follows, func(prefix string) bool { return strings.HasPrefix(f.Cause, prefix) })
			if late && f.Container == stall.Container && f.Weight > stall.Weight/2 {
				facts[i].Weight = stall.Weight / 2
				if strings.HasPrefix(f.Cause, "probe.") {
					facts[i].Text += "; it stood still meanwhile"
				}
			}
		}
	}
	return facts
}

// rank joins the facts of each cause and orders the causes.
func rank(facts []Fact) []Cause {
	type key struct{ cause, container string }
	byKey := map[key]*Cause{}
	var order []key
	for _, f := range facts {
		k := key{f.Cause, f.Container}
		c := byKey[k]
		if c == nil {
			c = &Cause{Name: f.Cause, Container: f.Container, Next: next(f.Cause)}
			byKey[k] = c
			order = append(order, k)
		}
		f.Text = oneLine(f.Text)
		c.Facts = append(c.Facts, f)
	}
	var causes []Cause
	for _, k := range order {
		c := byKey[k]
		strongest := slices.MaxFunc(c.Facts, func(a, b Fact) int { return cmp.Compare(a.Weight, b.Weight) })
		if c.Score = together(c, strongest.Weight); c.Score < threshold {
			continue
		}
		c.Sentence = oneLine(cmp.Or(strongest.sentence, strongest.Text))
		c.Next = cmp.Or(oneLine(strongest.next), c.Next)
		slices.SortStableFunc(c.Facts, func(a, b Fact) int { return a.Time.Compare(b.Time) })
		c.Facts = shorten(c.Facts)
		causes = append(causes, *c)
	}
	slices.SortStableFunc(causes, func(a, b Cause) int { return cmp.Compare(b.Score, a.Score) })
	return causes
}

// again is what a further call that was slow for the same reason adds to the slowest: on a
// busy node every call takes its second.
const again = 0.25

// together is how strongly the facts of a cause speak for it.
func together(c *Cause, strongest float64) float64 {
	against, seen := 1.0, false
	for _, f := range c.Facts {
		w := f.Weight
		if strings.HasSuffix(c.Name, ".slow") && (seen || w < strongest) {
			w *= again
		} else {
			seen = true
		}
		against *= 1 - w
	}
	return 1 - against
}

// oneLine makes one line of a joined error.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// maxFacts bounds what is shown for one cause: the first ones and the last.
const maxFacts = 8

func shorten(facts []Fact) []Fact {
	if len(facts) <= maxFacts {
		return facts
	}
	return append(slices.Clone(facts[:maxFacts-1]), facts[len(facts)-1])
}

// state says how things stand.
func state(e *Evidence) string {
	var parts []string
	last := map[string]Container{}
	var names []string
	for _, c := range e.Containers {
		if e.Container != "" && c.Name != e.Container {
			continue
		}
		if _, seen := last[c.Name]; !seen {
			names = append(names, c.Name)
		}
		last[c.Name] = c
	}
	for _, name := range names {
		parts = append(parts, last[name].state(e.Now))
	}
	switch {
	case len(parts) > 0:
	case e.Container != "":
		parts = append(parts, "the container was never created")
	case e.Sandbox == "":
		parts = append(parts, "the pod never became ready")
	default:
		parts = append(parts, fmt.Sprintf("the pod is %s and has no containers", e.Sandbox))
	}
	return strings.Join(parts, "; ")
}

func (c Container) state(now time.Time) string {
	text := fmt.Sprintf("%s is %s", c.Name, c.State)
	switch {
	case c.Lost:
		text = fmt.Sprintf("%s was %s when it was last seen, and is not there any more", c.Name, c.State)
	case c.State == pod.Running && !c.Started.IsZero():
		text += " for " + waterfall.Duration(now.Sub(c.Started))
	}
	if x := c.Exit; x != nil {
		text = fmt.Sprintf("%s ended %s ago with %d (%s)", c.Name, waterfall.Duration(now.Sub(c.Finished)), x.Code, x.Reason)
	}
	if c.Gone {
		text += " and was removed"
	}
	if c.Attempt > 0 {
		text += fmt.Sprintf(", attempt %d", c.Attempt)
	}
	return text
}
