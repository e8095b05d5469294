package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/telemetry/why"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// A container that crashes says what it called last: to vitrine flight, to crictl inspect,
// and to vitrine why also when its pod is gone.
func TestFlightRecorderIsOnRecordAfterACrash(t *testing.T) {
	n := start(t, harness.Options{Config: "[runtime]\nannotations = [\"io.vitrine.flight\"]\n"})
	n.NeedWatch(t)
	idle := n.attached()
	p := n.HostPod("flown")
	p.Annotations = map[string]string{"io.vitrine.flight": "true"}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	fine, _ := n.run(sandbox, p, "fine", "/bin/true")
	n.exited(fine)
	id, _ := n.run(sandbox, p, "crash", "/bin/payload", "fault", fmt.Sprint(unix.SYS_FSYNC), "300")
	n.exited(id)
	n.detached(idle)

	var all []api.Flight
	n.must(json.Unmarshal([]byte(harness.Must(n.Get("/v1/flight?pod=test/flown"))(t)), &all))
	if len(all) != 1 || all[0].Container != "crash" || len(all[0].Calls) != 256 || all[0].Missed == 0 {
		t.Fatalf("%d containers: %+v", len(all), all)
	}
	// Other threads may call something meanwhile; the one that crashed called nothing else.
	calls := all[0].Calls
	isFsync := func(c pod.Call) bool { return c.Name == "fsync" }
	last := len(calls) - 1
	for !isFsync(calls[last]) {
		last--
		if last < 0 {
			t.Fatalf("no fsync in %+v", calls)
		}
	}
	thread := calls[last].TID
	if calls[last].Result >= 0 || calls[last].Error == "" || calls[last].Command != "payload" || calls[last].Unfinished {
		t.Errorf("%+v", calls[last])
	}
	if slices.ContainsFunc(calls[last+1:], func(c pod.Call) bool { return c.TID == thread }) {
		t.Errorf("after its last fsync: %+v", calls[last+1:])
	}

	status := harness.Must(n.cri.ContainerStatus(n.ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true}))(t)
	var info struct{ Flight pod.Flight }
	n.must(json.Unmarshal([]byte(status.Info["info"]), &info))
	if len(info.Flight.Calls) != 256 {
		t.Errorf("inspect has %d calls", len(info.Flight.Calls))
	}
	if out := n.vitrine("flight", "-n", "20", "test/flown/crash"); strings.Count(out, "\n") != 22 || !strings.Contains(out, "calls before these") {
		t.Errorf("said %q", out)
	}
	judge := func() {
		t.Helper()
		var v why.Verdict
		n.must(json.Unmarshal([]byte(harness.Must(n.Get("/v1/why?subject=test/flown/crash"))(t)), &v))
		if v.Cause.Name != "crash.signal" || !slices.ContainsFunc(v.Cause.Facts, func(f why.Fact) bool {
			return f.Source == "flight" && strings.Contains(f.Text, "(payload, thread ") && strings.Contains(f.Text, "called last: ")
		}) {
			t.Errorf("why says %+v", v)
		}
	}
	judge()
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	judge()
	n.nothingLeft()
}
