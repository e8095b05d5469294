package telemetry

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/history"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// memory writes the node's history: events as they are observed, operations when they
// begin, calls some time after they ended, when the monitors have reported their
// steps, and figures at a container's exit, with which it exports the container's life.
// Everything that costs time is done in its own goroutine. A nil memory keeps nothing;
// one without a history counts commands and exports lives all the same.
type memory struct {
	t       *Telemetry
	history *history.Store
	stop    chan struct{}
	done    chan struct{}
	wake    chan struct{}

	mu      sync.Mutex // guards what follows
	pending []recall   // in order of due
	execs   map[string]*history.Execs
	told    map[string]time.Time // container id → when a slow or failed exec was last kept
	figures func(context.Context, pod.Container) history.Figures
}

// recall is something to be written when it is due.
type recall struct {
	due   time.Time
	trace trace.TraceID
	span  string
	exit  *pod.Event
}

const (
	// lateReports is how long monitors may take to report the steps of a call.
	lateReports = 2 * time.Second
	// maxPending bounds the calls that wait for it.
	maxPending = 8192
	// maxExecAccounts bounds the containers whose commands are counted.
	maxExecAccounts = 8192
	// execEvery is how often a slow or failed command of one container is kept with
	// its steps: a probe that times out does so every few seconds.
	execEvery = time.Minute
	// slowExec is from when on a command's steps are kept.
	slowExec = time.Second
)

// openMemory begins; with an error it keeps no history. close ends it.
func openMemory(t *Telemetry, c Config) (*memory, error) {
	m := &memory{t: t, stop: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1),
		execs: map[string]*history.Execs{}, told: map[string]time.Time{}}
	defer func() { go m.run() }()
	if c.HistoryDir == "" || c.HistoryBytes < 0 {
		return m, nil
	}
	problem := t.logs.occasionally("history is not written", time.Minute)
	store, err := history.Open(history.Options{
		Dir: c.HistoryDir, Bytes: c.HistoryBytes, Age: time.Duration(c.HistoryHours) * time.Hour,
		Problem: problem, Lost: func(n int) { t.metrics.add(historyDropped, float64(n)) },
	})
	if err != nil {
		return m, fmt.Errorf("keep a history: %w", err)
	}
	m.history = store
	version, _ := build(c)
	store.Put(history.Entry{Time: time.Now(), Kind: history.KindDaemon, Daemon: &history.Daemon{PID: os.Getpid(), Boot: bootID(), Version: version}})
	return m, nil
}

// bootID names this boot of the kernel.
func bootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

func (m *memory) store() *history.Store {
	if m == nil {
		return nil
	}
	return m.history
}

// close writes what is pending and ends the history with the daemon's orderly end.
func (m *memory) close() {
	if m == nil {
		return
	}
	select {
	case <-m.stop:
		return
	default:
	}
	close(m.stop)
	<-m.done
	m.history.Put(history.Entry{Time: time.Now(), Kind: history.KindDaemon, Daemon: &history.Daemon{PID: os.Getpid(), Boot: bootID(), Ended: true}})
	m.history.Close()
}

// begins are the operations of which it is worth knowing that they were cut off.
var begins = []string{"lifecycle.run_sandbox", "lifecycle.create_container", "lifecycle.start_container", "lifecycle.stop_container", "lifecycle.stop_sandbox", "lifecycle.remove_sandbox", "image.pull"}

// begun is called at the start of every span of the daemon. It does not block.
func (m *memory) begun(s sdktrace.ReadOnlySpan) {
	if m == nil || m.history == nil || !slices.Contains(begins, s.Name()) {
		return
	}
	e := history.Entry{Time: s.StartTime(), Kind: history.KindBegun, Begun: &history.Begun{Name: s.Name(), Span: s.SpanContext().SpanID().String()}}
	operationOf(&e, attributeMap(s.Attributes()))
	m.history.Put(e)
}

// operationOf fills in what an operation is about.
func operationOf(e *history.Entry, attrs map[string]any) {
	subjectFrom(&e.Subject, attrs)
	if e.Begun.Name == "image.pull" {
		e.Image, _ = attrs["vitrine.image.ref"].(string)
	}
}

// ended is called with every span that has ended. It does not block.
func (m *memory) ended(r *record) {
	if m == nil {
		return
	}
	if slices.Contains(begins, r.Name) {
		e := history.Entry{Time: time.Unix(0, r.End), Kind: history.KindEnded, Begun: &history.Begun{Name: r.Name, Span: r.ID}}
		operationOf(&e, r.Attributes)
		m.history.Put(e)
	}
	if r.Kind != trace.SpanKindServer.String() || isRead(r.Name) {
		return
	}
	now := time.Now()
	failed := r.Error || r.Text("rpc.response.status_code") != "OK"
	m.mu.Lock()
	defer m.mu.Unlock()
	if strings.HasSuffix(r.Name, "/ExecSync") && !m.countExec(r, failed, now) || m.history == nil {
		return
	}
	if len(m.pending) >= maxPending {
		m.t.metrics.add(historyDropped, 1)
		return
	}
	if failed { // kept at once, too: what fails is often followed by worse
		m.insert(recall{due: now, trace: r.trace, span: r.ID})
	}
	m.insert(recall{due: now.Add(lateReports), trace: r.trace, span: r.ID})
}

// insert is called with mu held.
func (m *memory) insert(r recall) {
	at, _ := slices.BinarySearchFunc(m.pending, r, func(a, b recall) int {
		if a.due.After(b.due) {
			return 1
		}
		return -1
	})
	m.pending = slices.Insert(m.pending, at, r)
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// countExec adds a command to its container's account and says whether its steps are
// worth keeping. It is called with mu held.
func (m *memory) countExec(r *record, failed bool, now time.Time) (keep bool) {
	id := r.Text(string(KeyContainerID))
	e := m.execs[id]
	if e == nil {
		if len(m.execs) >= maxExecAccounts {
			return false
		}
		e = &history.Execs{}
		m.execs[id] = e
	}
	took := r.Duration()
	e.Count++
	e.Total += took
	e.Longest = max(e.Longest, took)
	e.Last = time.Unix(0, r.End)
	code, _ := r.Attributes[string(KeyExitCode)].(int64)
	switch {
	case failed:
		e.Failed++
	case code != 0:
		e.NonZero++
		e.Code = int32(code)
	}
	if e.Streak++; !failed && code == 0 {
		e.Streak = 0
	}
	if r.Text("rpc.response.status_code") == "DEADLINE_EXCEEDED" {
		e.Timeouts++
	}
	if !failed && code == 0 && took < slowExec || now.Sub(m.told[id]) < execEvery {
		return false
	}
	m.told[id] = now
	return true
}

// Execs are the commands that this daemon ran in a container with ExecSync.
func (t *Telemetry) Execs(id pod.ID) history.Execs {
	m := t.memory
	if m == nil {
		return history.Execs{}
	}
	t.ended.settle()
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.execs[string(id)]; e != nil {
		return *e
	}
	return history.Execs{}
}

// ProvideFigures registers who reads a container's figures after its exit. It is
// called outside the path of any call.
func (t *Telemetry) ProvideFigures(read func(context.Context, pod.Container) history.Figures) {
	if m := t.memory; m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.figures = read
	}
}

// event keeps a pod.Event. It does not block.
func (m *memory) event(e pod.Event) {
	if m == nil {
		return
	}
	m.history.Put(history.FromEvent(e))
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e.Kind {
	case pod.ContainerExited:
		if len(m.pending) < maxPending {
			m.insert(recall{due: time.Now(), exit: &e})
		}
	case pod.ContainerRemoved:
		delete(m.execs, string(e.Container.ID))
		delete(m.told, string(e.Container.ID))
	}
}

// run writes what is due until close, then the rest.
func (m *memory) run() {
	defer close(m.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		m.write(time.Now())
		wait := time.Hour
		m.mu.Lock()
		if len(m.pending) > 0 {
			wait = time.Until(m.pending[0].due)
		}
		m.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-m.wake:
		case <-m.stop:
			m.write(time.Now().Add(lateReports + time.Second))
			return
		}
	}
}

// write keeps everything that is due by now.
func (m *memory) write(now time.Time) {
	for {
		m.mu.Lock()
		if len(m.pending) == 0 || m.pending[0].due.After(now) {
			m.mu.Unlock()
			return
		}
		r := m.pending[0]
		m.pending = slices.Delete(m.pending, 0, 1)
		read := m.figures
		m.mu.Unlock()
		if r.exit != nil {
			m.keepFigures(r.exit, read)
		} else if found := m.t.Trace(r.trace); found != nil {
			m.keepTrace(found, r.span)
		}
	}
}

// figuresBound is how long reading one container's figures may take.
const figuresBound = 2 * time.Second

func (m *memory) keepFigures(e *pod.Event, read func(context.Context, pod.Container) history.Figures) {
	entry := history.FromEvent(*e)
	figures := history.Figures{}
	if read != nil {
		ctx, cancel := context.WithTimeout(context.Background(), figuresBound)
		figures = read(ctx, *e.Container)
		cancel()
	}
	figures.Execs = m.t.Execs(e.Container.ID)
	m.t.exportLife(entry, figures)
	entry.Kind, entry.Event, entry.Figures = history.KindFigures, nil, &figures
	if *entry.Figures != (history.Figures{}) {
		m.history.Put(entry)
	}
}

// keepTrace keeps the key steps of one call.
func (m *memory) keepTrace(t *Trace, root string) {
	kept := waterfall.Key(t, root, maxKeySpans)
	if len(kept.Spans) == 0 {
		return
	}
	e := history.Entry{Time: time.Unix(0, kept.Spans[0].Start), Kind: history.KindTrace, Trace: kept}
	for i := range kept.Spans {
		s := &kept.Spans[i]
		subjectFrom(&e.Subject, s.Attributes)
		if i == 0 && strings.HasSuffix(s.Name, "/PullImage") {
			e.Image = s.Text(string(KeyImageName))
		}
		s.Attributes = brief(s.Attributes)
		s.Status = clip(s.Status, maxKeyText)
		s.Events, s.Links = nil, nil
	}
	m.history.Put(e)
}

const (
	// maxKeySpans bounds what is kept of one call.
	maxKeySpans = 40
	// maxKeyText bounds one text of it, in bytes.
	maxKeyText = 1024
)

// brief bounds texts and leaves lists out.
func brief(attrs map[string]any) map[string]any {
	kept := make(map[string]any, len(attrs))
	for k, v := range attrs {
		switch v := v.(type) {
		case string:
			kept[k] = clip(v, maxKeyText)
		case bool, int64, float64:
			kept[k] = v
		}
	}
	return kept
}

// subjectFrom fills what is still empty from a span's attributes.
func subjectFrom(s *history.Subject, attrs map[string]any) {
	for key, field := range map[string]*string{
		string(KeyNamespace): &s.Namespace, string(KeyPodName): &s.Pod, string(KeyPodUID): &s.UID, string(KeySandboxID): &s.Sandbox,
		string(KeyContainerName): &s.Container, string(KeyContainerID): &s.ContainerID,
	} {
		if text, _ := attrs[key].(string); *field == "" {
			*field = text
		}
	}
}

// History returns what the node remembers of a query (see history.Store.Find), up to
// this moment.
func (t *Telemetry) History(ctx context.Context, query string) ([]history.Entry, error) {
	store := t.memory.store()
	if err := store.Flush(ctx); err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return store.Find(query)
}
