package life_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/history"
	"github.com/vitrine-runtime/vitrine/telemetry/life"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/telemetry/why"
	"github.com/vitrine-runtime/vitrine/test/golden"
)

var begin = time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)

func at(s float64) time.Time { return begin.Add(time.Duration(s * float64(time.Second))) }

var web = history.Subject{Namespace: "shop", Pod: "web", UID: "u1"}

func id(digit string) string { return strings.Repeat(digit, 64) }

func traceparent(digit, flags string) string {
	return "00-" + strings.Repeat(digit, 32) + "-" + strings.Repeat(digit, 16) + "-" + flags
}

// app has lived for ten seconds and ended with x.
func app(x pod.Exit, change func(*why.Container)) why.Container {
	if x.Source == "" {
		x.Source = "monitor"
	}
	c := why.Container{Name: "app", ID: id("a"), Image: "shop/app:1", Attempt: 2, State: pod.Exited, Started: at(1), Finished: at(11), Exit: &x,
		Life: history.Life{Handler: "native", Created: traceparent("c", "01"), Started: traceparent("d", "01"), Previous: id("b")}}
	if change != nil {
		change(&c)
	}
	return c
}

// cases are drawn into the golden file.
var cases = []struct {
	name string
	c    why.Container
}{
	{"completed", app(pod.Exit{Reason: "Completed"}, nil)},
	{"going on, with a stall", app(pod.Exit{}, func(c *why.Container) {
		c.Exit, c.Finished, c.State = nil, time.Time{}, pod.Running
		c.Figures = history.Figures{Periods: 100, ThrottledPeriods: 80, Throttled: 6 * time.Second, CPU: time.Second}
	})},
	{"everything befell it", app(pod.Exit{Code: 137, Signal: 9, Reason: "OOMKilled", Message: "memory of the container ran out", Sender: &pod.Sender{From: pod.FromKernel}}, func(c *why.Container) {
		c.Life.Kills = []pod.OOMKill{
			{At: at(3), Victim: pod.Culprit{Command: "worker", ContainerPID: 7}, Level: "container", Limit: 64 << 20, Usage: 64 << 20, Message: "a worker was killed"},
			{At: at(12), Victim: pod.Culprit{Command: "app", ContainerPID: 1}, Init: true, Level: "container", Limit: 64 << 20, Usage: 64 << 20, Message: "PID 1 was killed"}}
		c.Life.AllKills = 5
		c.Denials = []pod.Denial{{Layer: "seccomp", Syscall: "mount", Count: 3, First: at(2), What: "mount was refused"}}
		c.AllDenials = 2
		c.LogBytes, c.LogDropped = 4096, 512
		c.Figures = history.Figures{Periods: 100, ThrottledPeriods: 80, Throttled: 6 * time.Second, CPU: time.Second, IOStall: 5 * time.Second, MemoryHigh: 5000, ThreadFailures: 4,
			MemoryPeak: 64 << 20, Execs: history.Execs{Count: 9, Failed: 2, Timeouts: 1, NonZero: 3, Last: at(8)}}
	})},
	{"stopped in time", app(pod.Exit{Code: 143, Signal: 15, Reason: "Error"}, func(c *why.Container) {
		c.Stopped, c.Life.Stop = true, &pod.Stop{At: at(10), Signal: "SIGTERM", Grace: 30 * time.Second, Traceparent: traceparent("e", "01")}
	})},
	{"killed when its grace was over", app(pod.Exit{Code: 137, Signal: 9, Reason: "Error"}, func(c *why.Container) {
		c.Stopped, c.Life.Stop = true, &pod.Stop{At: at(9), Signal: "SIGTERM", Grace: time.Second, KilledAt: at(10)}
	})},
	{"its status is not known", app(pod.Exit{Code: -1, Source: "unknown", Reason: "MonitorLost", Message: "the monitor ended"}, nil)},
	{"gave up", app(pod.Exit{Code: 3, Reason: "Error"}, nil)},
}

func TestLivesAreDrawnAsTheirGoldenFileSays(t *testing.T) {
	var b strings.Builder
	for _, c := range cases {
		drawn, ok := life.Of(web, c.c, at(21))
		if !ok {
			t.Errorf("%s: no life", c.name)
			continue
		}
		fmt.Fprintf(&b, "# %s\n", c.name)
		if err := waterfall.Render(&b, []*waterfall.Trace{drawn}, waterfall.Options{Events: true}); err != nil {
			t.Fatal(err)
		}
		s := drawn.Spans[0]
		var keys []string
		for k := range s.Attributes {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			fmt.Fprintf(&b, "  %s=%v\n", k, s.Attributes[k])
		}
		b.WriteString("\n")
	}
	golden.Check(t, filepath.Join("testdata", "lives.txt"), b.String())
}

func TestAContainerThatNeverRanHasNoLife(t *testing.T) {
	c := app(pod.Exit{Code: 128, Reason: "StartError"}, func(c *why.Container) { c.Started = time.Time{} })
	if drawn, ok := life.Of(web, c, at(21)); ok {
		t.Errorf("%+v", drawn)
	}
}

func TestALifeIsFoundByItsContainersID(t *testing.T) {
	trace, span, ok := life.IDs(id("a"))
	if !ok || trace != strings.Repeat("a", 32) || span != strings.Repeat("a", 16) {
		t.Errorf("%s %s %v", trace, span, ok)
	}
	for _, none := range []string{"", "no id", strings.Repeat("a", 46)} {
		if _, _, ok := life.IDs(none); ok {
			t.Errorf("%q names a life", none)
		}
	}
}
