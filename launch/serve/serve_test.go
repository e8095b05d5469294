package serve

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/launch"
)

func TestRequestIsReadAsTheDaemonWroteIt(t *testing.T) {
	dir := t.TempDir()
	want := launch.Request{Op: launch.OpExec, ID: "c", Process: launch.Document(`{"args":["sh"]}`), Criu: &launch.Criu{Path: "/criu"}}
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "launch.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Request(path)
	if err != nil || got.Op != want.Op || got.ID != want.ID || string(got.Process) != string(want.Process) || got.Criu == nil || *got.Criu != *want.Criu {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := os.WriteFile(path, raw[:len(raw)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{path, filepath.Join(dir, "none")} {
		_, err := Request(bad)
		if err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: got %v", bad, err)
			continue
		}
		if r := Refusal(err); r.Error == nil || r.Error.Kind != launch.KindInvalid || r.Error.Message != err.Error() {
			t.Errorf("refused with %+v", r)
		}
	}
}

func TestAnswerLargerThanAPipeArrivesWhole(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	reply := launch.Reply{PID: 7, Way: strings.Repeat("x", 1<<20)}
	sent := make(chan error, 1)
	go func() {
		sent <- write(int(w.Fd()), reply.Append(nil))
		w.Close()
	}()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if got, err := launch.ParseReply(string(text)); err != nil || got.PID != reply.PID || got.Way != reply.Way {
		t.Errorf("%d bytes arrived of %d, %v", len(text), len(reply.Append(nil)), err)
	}
}
