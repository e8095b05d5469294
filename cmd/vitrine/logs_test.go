package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/test/golden"
)

// logLine is a line as a monitor writes it.
func logLine(stream, tag, text string) string {
	return "2026-11-21T09:30:00.000000000Z " + stream + " " + tag + " " + text + "\n"
}

// logged is a container whose log has been rotated twice, and one that is gone.
func logged(t *testing.T, ended *atomic.Bool) (state, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "0.log")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte(logLine("stdout", "F", "one")))
	z.Close()
	for name, body := range map[string]string{
		path + ".20261121-090000.gz":  packed.String(),
		path + ".20261121-091000":     logLine("stdout", "F", "two") + logLine("stderr", "F", "trouble"),
		path + ".20261121-091500.tmp": "half",
		path:                          logLine("stdout", "P", "thr") + logLine("stdout", "F", "ee"),
	} {
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/logs", func(w http.ResponseWriter, r *http.Request) {
		app := api.Log{Pod: "shop/web", Container: "app", ID: "aaaaaaaaaaaa", Path: path, Ended: ended.Load()}
		gone := api.Log{Pod: "shop/old", Container: "job", ID: "bbbbbbbbbbbb", Path: filepath.Join(filepath.Dir(path), "gone.log"), Ended: true, Gone: true, Words: "cannot parse config\n"}
		logs := map[string][]api.Log{"shop/web": {app}, "shop/web/app": {app}, "aaaaaaaaaaaa": {app}, "shop/old": {gone},
			"shop/two": {app, {Pod: "shop/two", Container: "side", Path: path}}}[r.FormValue("subject")]
		if logs == nil {
			http.Error(w, `{"error":"not found"}`, http.StatusNotFound)
			return
		}
		json.NewEncoder(w).Encode(logs)
	})
	return daemon(t, mux), path
}

func TestLogsPrintRotatedFilesFirst(t *testing.T) {
	state, _ := logged(t, &atomic.Bool{})
	for name, c := range map[string]struct {
		args             []string
		stdout, problems string
		code             int
	}{
		"all":             {[]string{"shop/web"}, "one\ntwo\nthree\n", "trouble\n", 0},
		"the container":   {[]string{"shop/web/app"}, "one\ntwo\nthree\n", "trouble\n", 0},
		"the end":         {[]string{"shop/web", "--tail", "3"}, "three\n", "trouble\n", 0},
		"with times":      {[]string{"shop/web", "--tail", "2", "--timestamps"}, "2026-11-21T09:30:00.000000000Z three\n", "", 0},
		"last words":      {[]string{"shop/old"}, "cannot parse config\n", "vitrine: the log is gone; these are the last words of job\n", 0},
		"job of the gone": {[]string{"shop/old/job"}, "cannot parse config\n", "vitrine: the log is gone; these are the last words of job\n", 0},
		"which of two":    {[]string{"shop/two"}, "", "vitrine: shop/web has several containers, name one: app, side\n", 1},
		"no attempt":      {[]string{"shop/web", "-p"}, "", "vitrine: shop/web/app has run once only\n", 1},
		"nobody knows it": {[]string{"shop/none"}, "", "vitrine: not found\n", 1},
	} {
		out, problems, code := vitrine(t, append([]string{"logs", "--state", state}, c.args...)...)
		if out != c.stdout || problems != c.problems || code != c.code {
			t.Errorf("%s: %d, %q, %q", name, code, out, problems)
		}
	}
}

// What is written while the command follows is printed, also behind a rotation, and
// the command ends with the container.
func TestLogsFollowThroughARotation(t *testing.T) {
	var ended atomic.Bool
	state, path := logged(t, &ended)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // should it not end
	defer cancel()
	seen := &watched{want: map[string]func(){}}
	seen.want["three"] = func() {
		if err := os.Rename(path, path+".20261121-093000"); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(path, []byte(logLine("stdout", "F", "four")), 0o600); err != nil {
			t.Error(err)
		}
	}
	seen.want["four"] = func() { ended.Store(true) }
	var problems bytes.Buffer
	if code := run(ctx, []string{"logs", "-f", "--state", state, "shop/web"}, seen, &problems); code != 0 || seen.text.String() != "one\ntwo\nthree\nfour\n" {
		t.Errorf("%d, %q, %s", code, seen.text.String(), problems.String())
	}
}

// watched does something once when a text has been written.
type watched struct {
	text strings.Builder
	want map[string]func()
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.text.Write(b)
	for text, do := range w.want {
		if strings.Contains(w.text.String(), text) {
			delete(w.want, text)
			do()
		}
	}
	return n, err
}

func TestTopShowsRatesOfAnInterval(t *testing.T) {
	begin := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
	before := []api.Usage{
		{At: begin, Pod: "shop/web", Container: "app", ID: "a", CPU: time.Second, Periods: 10, ThrottledPeriods: 2},
		{At: begin, Pod: "shop/web", Container: "side", ID: "b", CPU: time.Minute, LogBytes: 1 << 20},
	}
	now := []api.Usage{
		{At: begin.Add(2 * time.Second), Pod: "shop/web", Container: "app", ID: "a", CPU: 2 * time.Second, Periods: 30, ThrottledPeriods: 12, Memory: 20 << 20, MemoryLimit: 64 << 20,
			Tasks: 3, TaskLimit: 100, Pressure: &api.Pressure{CPU: 12.5}},
		{At: begin.Add(2 * time.Second), Pod: "shop/web", Container: "side", ID: "b", CPU: 63 * time.Second, LogBytes: 3 << 20, LogDropped: 2048, Tasks: 1},
		{At: begin.Add(2 * time.Second), Pod: "shop/web", Container: "new", ID: "c"},
	}
	var b strings.Builder
	o := &options{output: "text"}
	if err := o.printTop(&b, rates(before, now)); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, filepath.Join("testdata", "top.txt"), b.String())
}

func TestCompletionOffersPodsAndContainers(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/pods", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode([]api.Pod{{Name: "shop/web", Containers: []string{"app", "side"}}, {Name: "test/x", Containers: []string{}}})
	})
	state := daemon(t, mux)
	out, _, code := vitrine(t, "__complete", "--state", state, "why", "sh")
	if want := "shop/web\nshop/web/app\nshop/web/side\n"; code != 0 || !strings.HasPrefix(out, want) {
		t.Errorf("%d, %q", code, out)
	}
}
