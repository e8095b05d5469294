package monitor

import (
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/otlp"
)

// context is a place in a trace.
type context struct {
	trace   [16]byte
	span    [8]byte
	sampled bool
}

func parseContext(traceparent string) (c context, ok bool) {
	c.trace, c.span, c.sampled, ok = otlp.ParseTraceparent(traceparent)
	return c, ok
}

// reporter turns what the monitor does into spans.
type reporter struct {
	m        *monitor
	resource otlp.Resource
	creation context // of the request that created the container; the default for later ones
	begun    int64   // when the creation reached the monitor
	launched int64   // when the launcher was run

	startedAt int64 // when the start was asked for; 0 before it has succeeded
	start     context
	firstAt   int64 // when the first byte of output was read
	firstTold bool
	number    [2]otlp.Int // room for the attributes of a creation, which are encoded at once
	delivery
}

// commonSpans is room for the spans of most creations, on the stack: a slice that grows
// leaves a page for each size that it had.
const commonSpans = 24

func (r *reporter) init(m *monitor) {
	r.m = m
	r.delivery.m = m
	r.delivery.exchange.init(m, r.delivery.posted)
}

// configure is called once the configuration is known.
func (r *reporter) configure() {
	c := &r.m.config
	r.resource = otlp.Resource{Service: "vitrine-monitor", Attributes: c.Attributes}
	r.creation, _ = parseContext(c.Traceparent)
}

// under is the context that a request named, or the creation's.
func (r *reporter) under(traceparent string) context {
	if c, ok := parseContext(traceparent); ok {
		return c
	}
	return r.creation
}

func (r *reporter) wanted(in context) bool {
	return in.sampled && r.m.config.TelemetrySocket != ""
}

// add queues spans, if anyone wants them.
func (r *reporter) add(in context, spans ...otlp.Span) {
	if r.wanted(in) {
		r.queueSpans(&r.resource, spans)
	}
}

// created reports monitor.create: the time since the daemon was asked, with the
// launcher's steps as children. The gaps around them have names too.
//
// A spare had begun long before: it was woken, and its launcher told.
//
// A launcher that had to wait for its request began beside the daemon's own steps. What
// came before the wait is then reported as monitor.ready, and the wait is nobody's: it is
// the daemon's time, and a slow step there must not look like a slow monitor.
//
//	daemon    ─record──rootfs──spec──bundle─┐
//	monitor     └boot─prepare─spawn─init────┴(wait)─request─spec…   monitor.ready, monitor.create
func (r *reporter) created(reply launch.Reply) {
	if !r.wanted(r.creation) {
		return
	}
	end := now()
	root := otlp.Span{Trace: r.creation.trace, Parent: r.creation.span, ID: newID(), Name: "monitor.create", Start: r.m.config.Requested, End: end}
	if root.Start == 0 {
		root.Start = r.begun
	}
	if r.launched == 0 {
		r.launched = end
	}
	r.number = [...]otlp.Int{{Key: "process.pid", Value: int64(syscall.Getpid())}, {Key: "vitrine.init.pid", Value: int64(reply.PID)}}
	root.Ints = r.number[:]
	ready, steps := root, reply.Steps
	boot, spawn, wait := "monitor.boot", "monitor.spawn", 1
	if r.m.spare.used {
		boot, spawn, wait = "monitor.wake", "launch.wake", 0
	}
	waited := len(steps) > wait && steps[wait].Name == launch.StepWait
	if waited {
		ready.ID, ready.Name, ready.End, ready.Ints = newID(), "monitor.ready", steps[wait].Start, nil
		root.Start = steps[wait].End
	}
	var room [commonSpans]otlp.Span
	spans := append(room[:0], root,
		childSpan(&ready, boot, ready.Start, r.begun),
		childSpan(&ready, "monitor.prepare", r.begun, r.launched))
	if waited {
		spans = append(spans, ready)
		if at := steps[0].Start; at > r.launched {
			spans = append(spans, childSpan(&ready, spawn, r.launched, at))
			r.launched = at
		}
		spans, _ = launcherSteps(spans, &ready, r.launched, steps[:wait])
		steps, r.launched = steps[wait+1:], root.Start
	}
	spans, after := launcherSteps(spans, &root, r.launched, steps)
	spans = append(spans, childSpan(&root, "monitor.adopt", after, end))
	if reply.Error != nil {
		fail(&spans[0], reply.Error)
		blame(spans, reply.Error)
	}
	r.add(r.creation, spans...)
}

// fail marks a span as failed. Its class is the daemon's word for the same failure.
func fail(span *otlp.Span, err *launch.Error) {
	span.Error = err.Message
	switch err.Kind {
	case launch.KindInternal:
	case launch.KindNotFound:
		span.Class = "notfound"
	default:
		span.Class = string(err.Kind)
	}
}

// blame puts an error on the step that failed.
func blame(spans []otlp.Span, err *launch.Error) {
	for i := len(spans) - 1; i > 0; i-- {
		if spans[i].Name == err.Step {
			fail(&spans[i], err)
			return
		}
	}
}

func childSpan(of *otlp.Span, name string, start, end int64) otlp.Span {
	return otlp.Span{Trace: of.Trace, Parent: of.ID, ID: newID(), Name: name, Start: start, End: max(start, end)}
}

// launcherSteps adds the launcher's steps below root, and before them the time that
// the launcher took to begin. A step that lies within an earlier one is that one's
// child. It returns when the last of them ended.
func launcherSteps(spans []otlp.Span, root *otlp.Span, launched int64, list []launch.Step) (_ []otlp.Span, end int64) {
	if len(list) > 0 && list[0].Start > launched {
		spans = append(spans, childSpan(root, "monitor.spawn", launched, list[0].Start))
	}
	first, end := len(spans), launched
	for _, step := range list {
		parent := root
		for i := len(spans) - 1; i >= first; i-- {
			if spans[i].Start <= step.Start && step.Start < spans[i].End && step.End <= spans[i].End {
				parent = &spans[i]
				break
			}
		}
		spans = append(spans, childSpan(parent, step.Name, step.Start, step.End))
		end = max(end, step.End)
	}
	return spans, end
}

// started reports monitor.start.
func (r *reporter) started(w waiter, end int64, err *launch.Error) {
	in := r.under(w.traceparent)
	if err == nil {
		r.startedAt, r.start = w.since, in
	}
	if !r.wanted(in) {
		return
	}
	span := otlp.Span{Trace: in.trace, Parent: in.span, ID: newID(), Name: "monitor.start", Start: w.since, End: end}
	if err != nil {
		fail(&span, err)
	}
	r.add(in, span)
	r.tellFirst()
}

// firstOutput is called with the first byte that comes out of the container.
func (r *reporter) firstOutput(at int64) {
	r.firstAt = at
	r.tellFirst()
}

// tellFirst reports monitor.first_output, from the start to the first byte of output,
// when both are known: the byte may be read before the start is.
func (r *reporter) tellFirst() {
	if r.firstTold || r.firstAt == 0 || r.startedAt == 0 {
		return
	}
	r.firstTold = true
	if !r.wanted(r.start) {
		return
	}
	r.add(r.start, otlp.Span{Trace: r.start.trace, Parent: r.start.span, ID: newID(), Name: "monitor.first_output", Start: r.startedAt, End: r.firstAt})
}

// exec reports monitor.exec: from the request until the program was executed.
func (r *reporter) exec(traceparent string, began int64, reply launch.Reply) {
	in := r.under(traceparent)
	if !r.wanted(in) {
		return
	}
	r.number[0] = otlp.Int{Key: "process.pid", Value: int64(reply.PID)}
	root := otlp.Span{Trace: in.trace, Parent: in.span, ID: newID(), Name: "monitor.exec", Start: began, End: now(), Ints: r.number[:1]}
	var room [commonSpans]otlp.Span
	spans, _ := launcherSteps(append(room[:0], root), &root, began, reply.Steps)
	if reply.Error != nil {
		fail(&spans[0], reply.Error)
		blame(spans, reply.Error)
	}
	r.add(in, spans...)
}

// newID draws a span ID.
func newID() (id [8]byte) {
	fd, e := newPath("/dev/urandom").open(syscall.O_RDONLY)
	if e == 0 {
		read(fd, id[:])
		syscall.Close(fd)
	}
	if id == [8]byte{} { // an ID of zeros is invalid
		for i, at := 0, now(); i < len(id); i++ {
			id[i], at = byte(at)|1, at>>8
		}
	}
	return id
}
