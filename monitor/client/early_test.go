package client_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/client"
)

// whenWaiting returns the pid of the launcher that waits for its request.
func (b *box) whenWaiting() (launcher int) {
	b.Helper()
	b.eventually("a launcher that waits", func() bool {
		for pid, args := range commands() {
			if strings.HasPrefix(args, "vitrine-launch ") && strings.HasSuffix(args, b.spawn.Request) {
				launcher = pid
			}
		}
		return launcher != 0
	})
	return launcher
}

// commands are the command lines of all processes.
func commands() map[int]string {
	found := map[int]string{}
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		pid := 0
		for _, digit := range filepath.Base(filepath.Dir(path)) {
			pid = 10*pid + int(digit-'0')
		}
		found[pid] = strings.Join(strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00"), " ")
	}
	return found
}

// serves tells whether a monitor of the box is there.
func (b *box) serves() bool {
	for _, args := range commands() {
		if strings.HasPrefix(args, "vitrine-monitor "+b.dir) {
			return true
		}
	}
	return false
}

func TestEarlyMonitorReadsItsRequestOnlyWhenTold(t *testing.T) {
	b := newBox(t, "sh", "-c", "echo up; sleep 1000").traced()
	c := collect(t, b.spawn.TelemetrySocket)
	request, err := os.ReadFile(b.spawn.Request)
	b.must(err)
	b.must(os.Remove(b.spawn.Request))
	early, err := client.StartEarly(b.ctx, b.spawn, nil)
	b.must(err)
	b.whenWaiting()
	spec, err := json.Marshal(b.spec)
	b.must(err)
	b.must(os.WriteFile(b.dir+"/config.json", spec, 0o600))
	b.must(os.WriteFile(b.spawn.Request, request, 0o600))
	b.m, b.made, err = early.Proceed()
	b.must(err)
	b.must(early.Cancel()) // too late: nothing
	b.must(b.m.StartContainer(b.ctx))
	b.eventually("its output", func() bool { out, _ := b.log(); return out == "up\n" })

	b.eventually("the spans", func() bool { return len(c.named("monitor.create")) == 1 })
	ready, create := c.named("monitor.ready"), c.named("monitor.create")[0]
	if len(ready) != 1 || string(ready[0].ParentSpanId) != string(create.ParentSpanId) || ready[0].EndTimeUnixNano > create.StartTimeUnixNano {
		t.Errorf("monitor.ready %v, monitor.create %v", ready, create)
	}
	for name, parent := range map[string][]byte{"launch.init": ready[0].SpanId, "monitor.spawn": ready[0].SpanId, "launch.request": create.SpanId, "libct.rootfs": create.SpanId} {
		if got := c.named(name); len(got) != 1 || string(got[0].ParentSpanId) != string(parent) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := c.named(launch.StepWait); len(got) != 0 {
		t.Errorf("the wait is nobody's time, got %v", got)
	}
}

func TestEarlyMonitorThatIsNotWantedLeavesNothing(t *testing.T) {
	b := newBox(t, "true")
	early, err := client.StartEarly(b.ctx, b.spawn, nil)
	b.must(err)
	b.whenWaiting()
	b.must(early.Cancel())
	if b.serves() {
		t.Error("its monitor is still there")
	}
	if _, _, err := early.Proceed(); err == nil || !strings.Contains(err.Error(), "given up") {
		t.Errorf("afterwards: %v", err)
	}
}

func TestEarlyMonitorWhoseLauncherDiesSaysSo(t *testing.T) {
	b := newBox(t, "true")
	early, err := client.StartEarly(b.ctx, b.spawn, nil)
	b.must(err)
	b.must(syscall.Kill(b.whenWaiting(), syscall.SIGKILL))
	_, _, err = early.Proceed()
	var failed *launch.Error
	if !errors.As(err, &failed) || failed.Step != "monitor.launch" {
		t.Errorf("got %v", err)
	}
	if b.serves() {
		t.Error("its monitor is still there")
	}
}
