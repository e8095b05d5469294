package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// Numbers of system calls that the default profile refuses to everybody, the same on
// every architecture for their age: io_uring_setup, fspick.
const (
	ioUringSetup = 425
	fspick       = 433
)

const notifierConfig = "[runtime]\nannotations = [\"io.vitrine.seccomp.notifier*\"]\n"

// countedRefusals are the seccomp lines of a container's ledger: how often which call.
func (n *node) countedRefusals(id string) map[string]uint64 {
	n.Helper()
	var all []api.Denials
	if err := json.Unmarshal([]byte(harness.Must(n.Get("/v1/denials?pod="+url.QueryEscape(id)))(n)), &all); err != nil {
		n.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, d := range all[0].Denials {
		if d.Layer == "seccomp" && d.Error == "EPERM" {
			counts[d.Syscall] += d.Count
		}
	}
	return counts
}

func (n *node) notified(sandbox string, p *runtime.PodSandboxConfig, name, script string) (string, *runtime.ContainerConfig) {
	n.Helper()
	c := harness.Container(p, name, n.image, "/bin/sh", "-c", script)
	c.Linux.SecurityContext.Seccomp = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_RuntimeDefault}
	return harness.Must(n.cri.Run(n.ctx, sandbox, p, c))(n), c
}

func TestSeccompNotifierCountsEveryRefusedCallAndSurvivesItsMonitorAndDaemon(t *testing.T) {
	n := start(t, harness.Options{Config: notifierConfig})
	p := n.HostPod("notified")
	p.Annotations = map[string]string{"io.vitrine.seccomp.notifier": "log"}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	id, c := n.notified(sandbox, p, "c", fmt.Sprintf(
		`i=0; until [ -e /tmp/end ]; do /bin/payload syscall %d; i=$((i+1)); done; echo $i; /bin/payload syscall %d; exit 6`, ioUringSetup, fspick))
	init := initPID(t, n, id)
	more := func() {
		t.Helper()
		from, deadline := n.countedRefusals(id)["io_uring_setup"], time.Now().Add(harness.Scale(20*time.Second))
		for n.countedRefusals(id)["io_uring_setup"] <= from {
			if time.Now().After(deadline) {
				t.Fatalf("no call was counted after %d", from)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	more()
	kill9(n, findProcess("vitrine-monitor", filepath.Join(n.State(), "containers", id)))
	more()
	n.must(n.Kill9())
	time.Sleep(time.Second) // calls without a daemon
	n.must(n.Start(n.ctx))
	more()
	if r := harness.Must(n.cri.Exec(n.ctx, id, 20, "/bin/payload", "syscall", fmt.Sprint(fspick)))(t); r.ExitCode != 0 {
		t.Errorf("exec: %d %s", r.ExitCode, r.Stderr)
	}
	n.must(os.WriteFile(fmt.Sprintf("/proc/%d/root/tmp/end", init), nil, 0o644))
	s := harness.Must(n.cri.WaitExit(n.ctx, id))(t)
	if s.ExitCode != 6 && !(s.ExitCode == -1 && s.Reason == "MonitorLost" && !knowsExits(t)) {
		t.Errorf("exit code %d (%s: %s)", s.ExitCode, s.Reason, s.Message)
	}
	log := harness.Must(harness.ReadLog(harness.LogPath(p, c)))(t)
	var calls uint64
	if _, err := fmt.Sscan(string(log.Stdout), &calls); err != nil {
		t.Errorf("log: %v", err)
	}
	// What the runtimes' own inits try is refused and not counted. A call under way in a killed monitor is counted again when its process was interrupted.
	got := n.countedRefusals(id)
	if got["io_uring_setup"] < calls || got["io_uring_setup"] > calls+2 || got["fspick"] != 2 {
		t.Errorf("counted %v, made were %d", got, calls)
	}
	page := harness.Must(n.Metrics())(t)
	if !strings.Contains(page, `vitrine_events_total{kind="container.denied"}`) {
		t.Error("metrics have no event of a denial")
	}
	if want := fmt.Sprintf("vitrine_denials_total{layer=\"seccomp\"} %d\n", got["io_uring_setup"]+got["fspick"]); !strings.Contains(page, want) {
		t.Errorf("metrics lack %s", want)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestSeccompNotifierKillsWhereThePodWantsThat(t *testing.T) {
	n := start(t, harness.Options{Config: notifierConfig})
	p := n.HostPod("strict")
	p.Annotations = map[string]string{"io.vitrine.seccomp.notifier": "log", "io.vitrine.seccomp.notifier/strict": "kill"}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	script := fmt.Sprintf(`/bin/payload syscall %d; echo lived; exit 3`, ioUringSetup)
	strict, _ := n.notified(sandbox, p, "strict", script)
	other, _ := n.notified(sandbox, p, "other", script)
	if s := harness.Must(n.cri.WaitExit(n.ctx, strict))(t); s.ExitCode != 137 || s.Reason != pod.SeccompKilled || !strings.Contains(s.Message, `io_uring_setup by "payload"`) {
		t.Errorf("strict: %d, %s: %s", s.ExitCode, s.Reason, s.Message)
	}
	if s := harness.Must(n.cri.WaitExit(n.ctx, other))(t); s.ExitCode != 3 {
		t.Errorf("other: %d, %s: %s", s.ExitCode, s.Reason, s.Message)
	}
	if got := n.countedRefusals(other); got["io_uring_setup"] != 1 {
		t.Errorf("other: counted %v", got)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
