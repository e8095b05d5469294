package libct

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/vitrine-runtime/vitrine/launch"
)

// A timeline collects when things happened in this process and in the init that it
// starts, and cuts the time between the moments into launch.Steps without a gap. It
// is a hook of libcontainer's logger. Safe for concurrent use.
//
// The moments come over two ways, this process's own messages at once and the init's
// through a pipe and another goroutine, so not in order: they are put into order by
// their time when the steps are taken.
type timeline struct {
	start int64 // ns since 1970, like all times here

	mu      sync.Mutex // guards all below
	moments []moment
	plan    []mark            // what a start is expected to log
	seen    []int64           // when plan's messages came, 0 for not yet
	calls   map[string]func() // by name of a planned step: what to do when it has ended
	filter  string            // an offer of the filter that the init had to compile
}

// A moment ends a step.
type moment struct {
	step string
	at   int64
	gap  bool // the step is only worth telling if no hook was right before it
}

// A mark is a message that ends a step.
type mark struct {
	step    string // the step that it ends
	message string // how the message begins
}

// createMarks are the messages of a create, in order. "@" stands before those of the
// init's Go side, which carry their own time; nsexec is the init's C side, whose
// messages count from their arrival; the rest are this process's own.
//
// As a picture, with what takes the time:
//
//	launcher   ──seal──spawn─┐ cgroup.procs (RCU) ┌───────────────┐limits,hooks┌──────┐state┌───────ready
//	nsexec                   └────────────────────┴namespaces┐    │            │      │     │
//	init                                                     └boot┴─rootfs─────┴pivot─┴─────┴seccomp─┘
//
// Credentials are the user, capabilities and look-up of the command; without
// no_new_privs the filter comes first and its step includes them.
var createMarks = []mark{
	{"libct.seal", "runc exeseal: using /proc/self/exe clone"},
	{"libct.spawn", "nsexec: => nsexec container setup"},
	{"libct.cgroup", "nsexec-0: ~> nsexec stage-0"},
	{"libct.namespaces", "nsexec-2: booting up go runtime"},
	{"libct.boot", "@child process in init()"},
	{"libct.rootfs", "@writing sync type:procHooks"},
	{"libct.limits", "writing sync type:procHooksDone"},
	{"libct.pivot", "@writing sync type:procReady"},
	{"libct.state", "@read sync type:procRun"},
	{"libct.credentials", "@" + begunMark},
	{"libct.seccomp", "@init: closing the pipe"},
	{"libct.ready", ""},
}

// execMarks are the messages of an exec session. The cgroup is joined between two
// messages of the init, except on cgroup v2, where the clone joins it.
var execMarks = []mark{
	{"libct.seal", "runc exeseal: using /proc/self/exe clone"},
	{"libct.spawn", "nsexec: => nsexec container setup"},
	{"libct.namespaces", "nsexec-2: booting up go runtime"},
	{"libct.boot", "@child process in init()"},
	{"libct.cgroup", "@writing sync type:procReady"},
	{"libct.limits", "@read sync type:procRun"},
	{"libct.credentials", "@" + begunMark},
	{"libct.seccomp", "@" + lastExec},
	{"libct.ready", ""},
}

// withoutFilter is marks for a container without a seccomp profile.
func withoutFilter(marks []mark) []mark {
	var rest []mark
	for _, m := range marks {
		switch m.step {
		case "libct.credentials":
			continue
		case "libct.seccomp":
			m.step = "libct.credentials"
		}
		rest = append(rest, m)
	}
	return rest
}

// newTimeline begins at a moment in the past.
func newTimeline(start time.Time) *timeline { return &timeline{start: start.UnixNano()} }

// end closes the current step now and calls it name.
func (t *timeline) end(name string) { t.endAt(name, time.Now().UnixNano()) }

func (t *timeline) endAt(name string, at int64) { t.add(moment{step: name, at: at}) }

// endGap is end for a step that is not worth telling right behind a hook.
func (t *timeline) endGap(name string) {
	t.add(moment{step: name, at: time.Now().UnixNano(), gap: true})
}

func (t *timeline) add(m moment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moments = append(t.moments, m)
}

// expect makes the marks' messages end steps until finish.
func (t *timeline) expect(marks []mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plan, t.seen = marks, make([]int64, len(marks))
}

// after has f called, once, when the message that ends the planned step comes. F runs on
// the goroutine that logs.
func (t *timeline) after(step string, f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls = map[string]func(){step: f}
}

// finish ends the plan now and returns the name of the step that ran last: the plan's
// last one or that in which an error arose. All messages must have come.
//
// The time of a message without a stamp is that of its arrival, which a busy machine makes
// late: no mark can be later than one that follows it.
func (t *timeline) finish() (step string) {
	now := time.Now().UnixNano()
	t.mu.Lock()
	defer t.mu.Unlock()
	running := 0
	latest := now
	for i, at := range slices.Backward(t.seen) {
		if at == 0 {
			continue
		}
		running = max(running, i+1)
		latest = min(latest, at)
		t.seen[i] = latest
	}
	for i, at := range t.seen {
		if at != 0 {
			t.moments = append(t.moments, moment{step: t.plan[i].step, at: at})
		}
	}
	if running < len(t.plan) {
		step = t.plan[running].step
		t.moments = append(t.moments, moment{step: step, at: now})
	}
	t.plan, t.seen = nil, nil
	return step
}

// taken returns the steps so far.
func (t *timeline) taken() []launch.Step {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortStableFunc(t.moments, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	steps := make([]launch.Step, 0, len(t.moments))
	last := t.start
	for i, m := range t.moments {
		if m.gap && i > 0 && strings.HasPrefix(t.moments[i-1].step, hookPrefix) {
			continue // the next hook takes it
		}
		at := max(m.at, last) // clocks are set back
		steps = append(steps, launch.Step{Name: m.step, Start: last, End: at})
		last = at
	}
	return steps
}

// compiled returns the filter that the init has reported.
func (t *timeline) compiled() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.filter
}

// listen makes t the only reader of libcontainer's log.
func (t *timeline) listen() {
	logrus.SetLevel(logrus.DebugLevel)
	logrus.SetFormatter(silent{})
	logrus.AddHook(t)
}

// Levels makes logrus call Fire for every message.
func (t *timeline) Levels() []logrus.Level { return logrus.AllLevels }

// Fire ends a step if the message is one that the plan still expects. A message that
// never comes leaves its time to the next step.
func (t *timeline) Fire(e *logrus.Entry) error {
	if e.Level == logrus.DebugLevel {
		if f := t.observe(normalize(e.Message, e.Time.UnixNano())); f != nil {
			f()
		}
	}
	return nil
}

// observe notes when a message of the plan came and returns what is to be called then.
func (t *timeline) observe(message string, at int64) func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if filter, ok := strings.CutPrefix(message, "@"+filterMark); ok {
		t.filter = filter
		return nil
	}
	for i, m := range t.plan {
		if t.seen[i] == 0 && m.message != "" && strings.HasPrefix(message, m.message) {
			t.seen[i] = at
			f := t.calls[m.step]
			delete(t.calls, m.step)
			return f
		}
	}
	return nil
}

// normalize takes the variable parts out of a message's beginning: the time of
// "@TIME rest", and the process id of "nsexec-0[PID]: rest".
func normalize(message string, at int64) (string, int64) {
	if rest, ok := strings.CutPrefix(message, "@"); ok {
		stamp, rest, _ := strings.Cut(rest, " ")
		if ns, err := strconv.ParseInt(stamp, 10, 64); err == nil {
			return "@" + rest, ns
		}
		return message, at
	}
	if strings.HasPrefix(message, "nsexec") {
		name, rest, ok := strings.Cut(message, "[")
		_, rest, closed := strings.Cut(rest, "]: ")
		if ok && closed {
			return name + ": " + rest, at
		}
	}
	return message, at
}

// silent is a formatter that writes nothing.
type silent struct{}

// Format returns nothing.
func (silent) Format(*logrus.Entry) ([]byte, error) { return nil, nil }
