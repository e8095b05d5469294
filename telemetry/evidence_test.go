package telemetry

import (
	"testing"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/history"
)

// The last that a killed daemon wrote may be the removal itself, without its operation's end.
func TestNothingGoesOnForASandboxThatWasRemoved(t *testing.T) {
	entry := func(sandbox string, e history.Entry) history.Entry {
		e.Subject = history.Subject{Namespace: "shop", Pod: "web", UID: "u", Sandbox: sandbox}
		return e
	}
	begun := func(sandbox, name string) history.Entry {
		return entry(sandbox, history.Entry{Kind: history.KindBegun, Begun: &history.Begun{Name: name, Span: sandbox + name}})
	}
	r := recollect([]history.Entry{
		begun("old", "lifecycle.create_container"),
		{Kind: history.KindDaemon, Daemon: &history.Daemon{}},
		begun("old", "lifecycle.remove_sandbox"), begun("new", "lifecycle.run_sandbox"),
		entry("old", history.Entry{Kind: history.KindEvent, Event: &history.Event{Kind: pod.SandboxRemoved}}),
	}, subject{Subject: history.Subject{UID: "u"}})
	if len(r.begun) != 3 || r.begun[0].Ended || !r.begun[1].Ended || r.begun[2].Ended {
		t.Errorf("%+v", r.begun)
	}
}
