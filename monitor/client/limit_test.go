package client_test

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

var marker = regexp.MustCompile(`(?m)^\[vitrine: [^\n]*\]\n`)

func TestLimitsAreKeptCountedAndShown(t *testing.T) {
	const size = 100 * 50000
	flood := []string{"sh", "-c", "yes " + strings.Repeat("x", 99) + " | head -n 50000"}
	for policy, text := range map[uint8]string{wire.LimitDrop: "were left out", wire.LimitSample: "one line in 10 was kept"} {
		b := newBox(t, flood...)
		b.spawn.LogLimit = wire.LogLimit{Policy: policy, Rate: 20000, Sample: 10}
		b.start()
		e := b.exit()
		stats, err := b.m.Stats(b.ctx)
		b.must(err)
		out, _ := b.log()
		kept := len(marker.ReplaceAllString(out, ""))
		if e.LogBytes != size || e.LogLimited == 0 || int64(kept)+e.LogLimited != size || uint64(e.LogLimited) != stats.LogLimited ||
			stats.LogLines+stats.LogLimitedLines != size/100 || e.LogDropped != 0 {
			t.Errorf("policy %d: %d bytes kept, exit %+v, counters %+v", policy, kept, e, stats)
		}
		if !strings.Contains(out, text) {
			t.Errorf("policy %d: no marker: %.200q", policy, out)
		}
	}
}

func TestBackpressureSlowsTheContainerLosesNothingAndDelaysNoExit(t *testing.T) {
	b := newBox(t, "sh", "-c", "yes "+strings.Repeat("x", 99)+" | head -n 40000; echo done >&2; exec sleep 1000")
	b.spawn.LogLimit = wire.LogLimit{Policy: wire.LimitBackpressure, Rate: 4 << 20, Burst: 64 << 10}
	b.start()
	b.eventually("all of the log", func() bool { s, _ := b.m.Stats(b.ctx); return s.LogLines >= 40001 })
	stats, err := b.m.Stats(b.ctx)
	b.must(err)
	if stats.LogPauses == 0 || stats.LogPausedMillis == 0 || stats.LogLimited != 0 {
		t.Errorf("counters %+v", stats)
	}
	out, _ := b.log()
	if len(marker.ReplaceAllString(out, "")) != 100*40000 || !strings.Contains(out, "[vitrine: output was held back for ") {
		t.Errorf("%d bytes of log", len(out))
	}

	// What the pipe holds at the end is not held back, however slow the limit.
	c := newBox(t, "sh", "-c", "yes "+strings.Repeat("x", 99)+" | head -n 8000")
	c.spawn.LogLimit = wire.LogLimit{Policy: wire.LimitBackpressure, Rate: 1000, Burst: 16 << 10, Pause: 60000}
	c.start()
	if e := c.exit(); e.LogBytes != 800000 || e.Code() != 0 {
		t.Errorf("exit %+v", e)
	}
}

func TestLogIsNotLedElsewhereByALinkBelowTheTrustedDirectory(t *testing.T) {
	elsewhere := t.TempDir()
	gone := func(path string) bool { _, err := os.Lstat(path); return errors.Is(err, os.ErrNotExist) }
	for name, lead := range map[string]func(b *box){
		"file": func(b *box) { b.must(os.Symlink(elsewhere+"/0.log", b.logs+"/pod/c/0.log")) },
		"container's directory": func(b *box) {
			b.must(os.Remove(b.logs + "/pod/c"))
			b.must(os.Symlink(elsewhere, b.logs+"/pod/c"))
		},
		"pod's directory": func(b *box) {
			b.must(os.RemoveAll(b.logs + "/pod"))
			b.must(os.Mkdir(elsewhere+"/c", 0o700))
			b.must(os.Symlink(elsewhere, b.logs+"/pod"))
		},
		"way out": func(b *box) {
			b.must(os.Remove(b.logs + "/pod/c"))
			b.must(os.Symlink("../../container", b.logs+"/pod/c"))
		},
	} {
		b := newBox(t, "true")
		b.must(os.MkdirAll(b.logs+"/pod/c", 0o700))
		b.spawn.LogTrusted, b.spawn.LogPath = b.logs, b.logs+"/pod/c/0.log"
		lead(b)
		var failed *launch.Error
		if err := b.tryCreate(); !errors.As(err, &failed) || failed.Step != "monitor.log" || !strings.Contains(failed.Message, "too many levels of symbolic links") {
			t.Errorf("%s: %v", name, err)
		}
		if !gone(elsewhere+"/0.log") || !gone(elsewhere+"/c/0.log") || !gone(b.dir+"/0.log") {
			t.Errorf("%s: a log was made elsewhere", name)
		}
	}

	// The administrator's own link above it is followed; a link that comes later stops a
	// rotation and not the log.
	b := newBox(t, "sh", "-c", "echo first; read x; echo second; exec sleep 1000")
	b.must(os.MkdirAll(b.logs+"/real/pod/c", 0o700))
	b.must(os.Symlink(b.logs+"/real", b.logs+"/link"))
	b.spawn.LogTrusted, b.spawn.LogPath, b.spawn.Stdin = b.logs+"/link", b.logs+"/link/pod/c/0.log", true
	b.start()
	b.must(os.RemoveAll(b.logs + "/real/pod/c"))
	b.must(os.Symlink(elsewhere, b.logs+"/real/pod/c"))
	var failed *launch.Error
	if err := b.m.ReopenLog(b.ctx); !errors.As(err, &failed) || !strings.Contains(failed.Message, "too many levels of symbolic links") {
		t.Errorf("reopen: %v", err)
	}
	if !gone(elsewhere + "/0.log") {
		t.Error("the rotation was led elsewhere")
	}
	b.must(os.Remove(b.logs + "/real/pod/c"))
	b.must(os.Mkdir(b.logs+"/real/pod/c", 0o700))
	b.must(b.m.ReopenLog(b.ctx))
	b.must(b.m.CloseStdin(b.ctx))
	b.eventually("the second line in the new file", func() bool {
		raw, _ := os.ReadFile(b.spawn.LogPath)
		return strings.HasSuffix(string(raw), " F second\n")
	})
}
