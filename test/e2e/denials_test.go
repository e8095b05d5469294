package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// denied asks the daemon for one container's ledger: a line each, without when and who.
func (n *node) denied(id string) (lines []string) {
	n.Helper()
	var all []api.Denials
	if err := json.Unmarshal([]byte(harness.Must(n.Get("/v1/denials?pod="+url.QueryEscape(id)))(n)), &all); err != nil {
		n.Fatal(err)
	}
	if len(all) != 1 || !all[0].Observed || all[0].Lost != 0 {
		n.Fatalf("ledgers of %s: %+v", id, all)
	}
	for _, d := range all[0].Denials {
		if d.Count != 1 || d.What == "" || d.Remedy == "" || d.Process.Command != "payload" || d.First.IsZero() {
			n.Errorf("%+v", d)
		}
		lines = append(lines, strings.Join(strings.Fields(fmt.Sprint(d.Layer, " ", d.Syscall, " ", d.Capability, " ", d.Error, " ", d.Path)), " "))
	}
	return lines
}

// What test/payload/hostile.go does, as the ledger has it, in the order of time.
func hostileLedger() (want []string) {
	for _, name := range strings.Fields(`mount umount2 unshare setns bpf perf_event_open sethostname setdomainname reboot swapon
		swapoff acct init_module delete_module kexec_load quotactl settimeofday clock_settime add_key keyctl pivot_root
		userfaultfd open_by_handle_at fanotify_init`) {
		want = append(want, "seccomp "+name+" EPERM")
	}
	return append(want,
		"capability socket NET_RAW EPERM",
		"capability setuid SETUID EPERM",
		"capability setgid SETGID EPERM",
		"capability setgroups SETGID EPERM",
		"capability sched_setscheduler SYS_NICE EPERM",
		"capability setpriority SYS_NICE EACCES",
		"read-only openat EROFS /bin/sh",
		"read-only mkdirat EROFS /new",
		"read-only unlinkat EROFS /bin/payload",
		"read-only renameat EROFS /bin/payload",
		"read-only linkat EROFS /bin/payload",
		"read-only symlinkat EROFS /new",
		"read-only fchmodat EROFS /bin/payload",
		"read-only truncate EROFS /bin/payload",
		"read-only utimensat EROFS /bin/payload",
		"read-only mknodat EROFS /fifo",
		"permission connect EACCES",
		"permission write EPERM",
	)
}

func TestHostileContainersLedgerIsWhatItTried(t *testing.T) {
	n := start(t, harness.Options{Config: "[runtime]\nannotations = [\"io.vitrine.denials\"]\n"})
	n.NeedWatch(t)
	p := n.HostPod("hostile")
	p.Annotations = map[string]string{"io.vitrine.denials": "true"}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	c := harness.Container(p, "c", n.image, "/bin/payload", "hostile")
	c.Linux.SecurityContext.Capabilities = &runtime.Capability{DropCapabilities: []string{"ALL"}}
	c.Linux.SecurityContext.ReadonlyRootfs = true
	id := harness.Must(n.cri.Run(n.ctx, sandbox, p, c))(t)
	n.exited(id)
	have, want := n.denied(id), hostileLedger()
	for i := range max(len(have), len(want)) {
		var h, w string
		if i < len(have) {
			h = have[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if h != w {
			t.Errorf("%d: have %q, want %q", i, h, w)
		}
	}
	t.Logf("%d actions denied", len(want))
	page := harness.Must(n.Metrics())(t)
	for _, series := range []string{`vitrine_denials_total{layer="seccomp"} 24`, `vitrine_denials_total{layer="read-only"} 10`} {
		if !strings.Contains(page, series) {
			t.Errorf("metrics lack %s", series)
		}
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestDeviceThatAPodWasNotGivenIsToldApart(t *testing.T) {
	n := start(t, harness.Options{Config: "[runtime]\nannotations = [\"io.vitrine.denials\"]\n"})
	n.NeedWatch(t)
	p := n.HostPod("device")
	p.Annotations = map[string]string{"io.vitrine.denials": "true"}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	c := harness.Container(p, "c", n.image, "/bin/cat", "/dev/kmsg")
	c.Mounts = []*runtime.Mount{{HostPath: "/dev/kmsg", ContainerPath: "/dev/kmsg"}}
	id := harness.Must(n.cri.Run(n.ctx, sandbox, p, c))(t)
	n.exited(id)
	var all []api.Denials
	if err := json.Unmarshal([]byte(harness.Must(n.Get("/v1/denials?pod="+url.QueryEscape(id)))(t)), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("%d ledgers", len(all))
	}
	if !slices.ContainsFunc(all[0].Denials, func(d pod.Denial) bool {
		return d.Path == "/dev/kmsg" && d.Layer == "device" && d.Error == "EPERM" && strings.Contains(d.What, "c 1:11")
	}) {
		t.Errorf("no denied device in %+v", all[0].Denials)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
