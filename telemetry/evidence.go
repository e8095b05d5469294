package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/history"
	"github.com/vitrine-runtime/vitrine/telemetry/why"
)

// Node is what other rooms know of the pods that exist. Every field is required.
type Node struct {
	Sandboxes  func() []pod.Sandbox
	Containers func() []pod.Container
	// Inspect fills in what can be seen of a container at this moment: its figures, its
	// processes' states, its log. What cannot be read is left as it is.
	Inspect func(context.Context, pod.Container, *why.Container)
}

// evidenceTraces bounds the traces that are looked at for one question.
const evidenceTraces = 400

// Evidence collects what this node knows of a pod, a container or an image, alive or
// gone. The query is that of APIHandler. Nothing known: pod.ErrNotFound.
func (t *Telemetry) Evidence(ctx context.Context, query string, node Node) (why.Evidence, error) {
	if query == "" {
		return why.Evidence{}, fmt.Errorf("%w: of which pod or container?", pod.ErrInvalid)
	}
	about, err := t.identify(ctx, query, node)
	if err != nil {
		return why.Evidence{}, err
	}
	e := why.Evidence{Pod: about.name(), Container: about.Container, Namespace: about.Namespace, Name: about.Subject.Pod, UID: about.UID, Now: time.Now()}
	entries, err := t.History(ctx, about.name())
	if err != nil {
		return why.Evidence{}, err
	}
	past := recollect(entries, about)
	e.Begun, e.Lives, e.Containers, e.Sandbox = past.begun, past.lives, past.containers, past.sandbox
	t.addLiving(ctx, &e, about, node)
	queries := []string{about.name()}
	for _, c := range e.Containers {
		if c.Image != "" && !slices.Contains(queries, c.Image) {
			queries = append(queries, c.Image)
		}
	}
	e.Traces = mergeTraces(past.traces, t.tracesOf(queries, about))
	return e, nil
}

// tracesOf are the traces in memory that match one of the queries.
func (t *Telemetry) tracesOf(queries []string, about subject) []*Trace {
	var all []*Trace
	for _, q := range queries {
		for _, found := range t.Find(q, false, evidenceTraces) {
			if about.fits(found) {
				all = append(all, found)
			}
		}
	}
	return all
}

// subject is what a question is about.
type subject struct{ history.Subject }

// name is namespace/pod, or the image.
func (s subject) name() string {
	if s.Pod == "" {
		return s.Image
	}
	return s.Namespace + "/" + s.Pod
}

// fits: the trace is not about another pod of the same name.
func (s subject) fits(t *Trace) bool {
	if s.UID == "" {
		return true
	}
	other := false
	for _, span := range t.Spans {
		switch span.Text(string(KeyPodUID)) {
		case s.UID:
			return true
		case "":
		default:
			other = true
		}
	}
	return !other
}

// identify finds the pod that a query names: the living one first, else the one that
// was seen last.
func (t *Telemetry) identify(ctx context.Context, query string, node Node) (subject, error) {
	var best subject
	var at time.Time
	see := func(s history.Subject, when time.Time) {
		if s.Matches(query) && when.After(at) {
			best, at = subject{s}, when
		}
	}
	owners := map[pod.ID]pod.Sandbox{}
	for _, sb := range node.Sandboxes() {
		owners[sb.ID] = sb
		see(subjectOf(sb, nil), sb.CreatedAt)
	}
	for _, c := range node.Containers() {
		if sb, ok := owners[c.SandboxID]; ok {
			see(subjectOf(sb, &c), c.CreatedAt)
		}
	}
	if at.IsZero() {
		for _, found := range t.Find(query, false, evidenceTraces) {
			for _, span := range found.Spans {
				var s history.Subject
				subjectFrom(&s, span.Attributes)
				if strings.HasSuffix(span.Name, "/PullImage") {
					s.Image = span.Text(string(KeyImageName))
				}
				see(s, time.Unix(0, span.Start))
			}
		}
		entries, err := t.History(ctx, query)
		if err != nil {
			return best, err
		}
		for _, e := range entries {
			see(e.Subject, e.Time)
		}
	}
	if at.IsZero() {
		return best, fmt.Errorf("%q: %w: this node knows no pod, container or image of this name (a pod is namespace/name)", query, pod.ErrNotFound)
	}
	if asked := best.Container != "" && (query == best.Namespace+"/"+best.Pod+"/"+best.Container || best.ContainerID != "" && strings.HasPrefix(best.ContainerID, query)); !asked {
		best.Container, best.ContainerID = "", ""
	}
	return best, nil
}

func subjectOf(sb pod.Sandbox, c *pod.Container) history.Subject {
	m := sb.Config.GetMetadata()
	s := history.Subject{Namespace: m.GetNamespace(), Pod: m.GetName(), UID: m.GetUid(), Sandbox: string(sb.ID)}
	if c != nil {
		s.Container, s.ContainerID = c.Config.GetMetadata().GetName(), string(c.ID)
	}
	return s
}

// recollection is what the history tells of one pod.
type recollection struct {
	begun      []why.Begun
	lives      []why.Life
	containers []why.Container
	traces     []*Trace
	sandbox    string
}

// recollect sorts the entries about one pod.
func recollect(entries []history.Entry, about subject) recollection {
	var r recollection
	byID := map[string]int{}
	operations, going := map[history.Begun]int{}, map[string][]int{} // indices of begun, by sandbox
	for _, e := range entries {
		if e.Kind == history.KindDaemon {
			r.lives = append(r.lives, why.Life{Time: e.Time, Boot: e.Daemon.Boot, Ended: e.Daemon.Ended})
			clear(going) // what a daemon has cut off is not ended by what the next one removes
			continue
		}
		if about.UID != "" && e.UID != "" && e.UID != about.UID {
			continue
		}
		switch e.Kind {
		case history.KindBegun:
			operations[*e.Begun] = len(r.begun)
			going[e.Sandbox] = append(going[e.Sandbox], len(r.begun))
			r.begun = append(r.begun, why.Begun{Time: e.Time, Name: e.Begun.Name, Container: e.Container})
		case history.KindEnded:
			if i, begun := operations[*e.Begun]; begun {
				r.begun[i].Ended = true
			}
		case history.KindTrace:
			r.traces = append(r.traces, e.Trace)
		case history.KindEvent, history.KindFigures:
			if e.ContainerID == "" {
				if e.Kind == history.KindEvent {
					r.sandbox = strings.TrimPrefix(string(e.Event.Kind), "sandbox.")
				}
				if e.Kind == history.KindEvent && e.Event.Kind == pod.SandboxRemoved {
					// Its operation's end is written a moment later, which a killed daemon may not have had.
					for _, i := range going[e.Sandbox] {
						r.begun[i].Ended = true
					}
				}
				continue
			}
			i, seen := byID[e.ContainerID]
			if !seen {
				i = len(r.containers)
				byID[e.ContainerID] = i
				r.containers = append(r.containers, why.Container{Name: e.Container, ID: e.ContainerID})
			}
			if e.Kind == history.KindFigures {
				r.containers[i].Figures = *e.Figures
			} else {
				learn(&r.containers[i], e.Event)
			}
		}
	}
	return r
}

// learn takes an event of a container over.
func learn(c *why.Container, e *history.Event) {
	c.Attempt, c.Image, c.LogPath = e.Attempt, e.Image, e.LogPath
	c.Created, c.Started, c.Finished = e.Created, e.Started, e.Finished
	switch {
	case e.Kind == pod.ContainerRemoved:
		c.Gone = true
	case e.To != 0:
		c.State = e.To
	}
	if e.Exit != nil {
		c.Exit, c.LogBytes, c.LogDropped = e.Exit, e.Exit.LogBytes, e.Exit.LogDropped
	}
	if e.Kind == pod.ContainerExited {
		c.Calls = e.Calls
		c.Stopped = e.From == pod.Stopping
		c.Denials, c.AllDenials = e.Denials, e.AllDenials
		if e.Life != nil {
			c.Life = *e.Life
		}
	}
}

// addLiving lays what exists over what is remembered.
func (t *Telemetry) addLiving(ctx context.Context, e *why.Evidence, about subject, node Node) {
	ours := map[pod.ID]bool{}
	for _, sb := range node.Sandboxes() {
		if s := subjectOf(sb, nil); s.Namespace == about.Namespace && s.Pod == about.Pod && (about.UID == "" || s.UID == about.UID) {
			ours[sb.ID], e.Sandbox = true, sb.State.String()
		}
	}
	living := map[string]bool{}
	defer func() {
		for i := range e.Containers {
			w := &e.Containers[i]
			w.Lost = w.Exit == nil && !w.Gone && !living[w.ID]
		}
	}()
	for _, c := range node.Containers() {
		if !ours[c.SandboxID] {
			continue
		}
		living[string(c.ID)] = true
		i := slices.IndexFunc(e.Containers, func(known why.Container) bool { return known.ID == string(c.ID) })
		if i < 0 {
			i = len(e.Containers)
			e.Containers = append(e.Containers, why.Container{Name: c.Config.GetMetadata().GetName(), ID: string(c.ID)})
		}
		w := &e.Containers[i]
		w.Attempt, w.Image, w.State = c.Config.GetMetadata().GetAttempt(), c.Image.User, c.State
		w.LogPath = c.LogPath
		w.Created, w.Started, w.Finished = c.CreatedAt, c.StartedAt, c.FinishedAt
		if c.Exit != nil {
			w.Exit, w.LogBytes, w.LogDropped = c.Exit, c.Exit.LogBytes, c.Exit.LogDropped
		}
		w.Denials, w.AllDenials = c.Evidence.Denials, len(c.Evidence.Denials)+int(min(c.Evidence.DenialsLost, 1<<30))
		w.Life = *history.LifeOf(c)
		if f := c.Evidence.Flight; f != nil {
			w.Calls = f.Calls
		}
		node.Inspect(ctx, c, w)
		if execs := t.Execs(c.ID); execs.Count > 0 {
			w.Figures.Execs = execs
		}
	}
	slices.SortStableFunc(e.Containers, func(a, b why.Container) int { return a.Created.Compare(b.Created) })
}

// mergeTraces joins the parts of each trace, in the order of their start; of two
// records of one step the later, which ended, is kept.
func mergeTraces(lists ...[]*Trace) []*Trace {
	byID := map[string]*Trace{}
	var all []*Trace
	for _, list := range lists {
		for _, t := range list {
			into := byID[t.ID]
			if into == nil {
				into = &Trace{ID: t.ID}
				byID[t.ID] = into
				all = append(all, into)
			}
			for _, s := range t.Spans {
				if known := into.Span(s.ID); known == nil {
					into.Spans = append(into.Spans, s)
				} else if known.Unfinished || !s.Unfinished {
					*known = s
				}
			}
		}
	}
	for _, t := range all {
		t.Sort()
	}
	slices.SortFunc(all, func(a, b *Trace) int {
		x, _ := a.Bounds()
		y, _ := b.Bounds()
		return cmp.Compare(x, y)
	})
	return all
}
