package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// The daemon loads its profile, and it holds: what capabilities would allow is refused
// under it and done without it. A kernel without AppArmor has nothing to show.
func TestDefaultAppArmorProfileIsLoadedAndEnforced(t *testing.T) {
	if on, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || !strings.HasPrefix(string(on), "Y") {
		t.Skip("this kernel has no AppArmor, or it is switched off")
	}
	n := start(t, harness.Options{})
	pod := n.Pod("apparmor")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	const script = `cat /proc/self/attr/current
mkdir /place && mount -t tmpfs none /place 2>/dev/null && echo mounted
{ echo 1 >/proc/sys/net/ipv4/ip_forward; } 2>/dev/null && echo written
sleep 1000 & kill $! && echo signalled`
	type profile = runtime.SecurityProfile
	for name, tc := range map[string]struct {
		profile *profile
		want    string
	}{
		"unset":     {nil, "vitrine-default (enforce)\nsignalled\n"},
		"default":   {&profile{ProfileType: runtime.SecurityProfile_RuntimeDefault}, "vitrine-default (enforce)\nsignalled\n"},
		"localhost": {&profile{ProfileType: runtime.SecurityProfile_Localhost, LocalhostRef: "vitrine-default"}, "vitrine-default (enforce)\nsignalled\n"},
		"without":   {&profile{ProfileType: runtime.SecurityProfile_Unconfined}, "unconfined\nmounted\nwritten\nsignalled\n"},
	} {
		t.Run(name, func(t *testing.T) {
			m := *n
			m.TB = t
			c := harness.Container(pod, name, n.image, "/bin/sh", "-c", script)
			c.Linux.SecurityContext.Apparmor = tc.profile
			c.Linux.SecurityContext.ReadonlyPaths = nil // as procMount Unmasked does
			c.Linux.SecurityContext.Capabilities = &runtime.Capability{AddCapabilities: []string{"SYS_ADMIN", "NET_ADMIN"}}
			id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
			harness.Must(n.cri.WaitExit(n.ctx, id))(t)
			m.stdout(pod, c, tc.want)
			m.must(n.cri.Remove(n.ctx, id))
		})
	}
	if n.Options.Handler == harness.NativeHandler {
		n.enteredUnderAppArmor(sandbox, pod)
	}
	// The runtime's signals reach what runs under it.
	id, _ := n.run(sandbox, pod, "stopped", "sleep", "1000")
	n.must(n.cri.Stop(n.ctx, id, 60))
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// All but the first containers of a seccomp profile are made without libcontainer, what is executed
// in them is, too, and all of it is under the daemon's profile.
func (n *node) enteredUnderAppArmor(sandbox string, pod *runtime.PodSandboxConfig) {
	n.Helper()
	const label = "vitrine-default (enforce)\n"
	var id string
	for deadline, i := time.Now().Add(harness.Scale(time.Minute)), 0; ; i++ { // the filter is learnt after an answer
		c := harness.Container(pod, fmt.Sprint("entered-", i), n.image, "/bin/sh", "-c", "cat /proc/self/attr/current; sleep 1000")
		id = harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(n)
		n.stdout(pod, c, label)
		by := n.createdBy(id)
		if by == "enter" {
			break
		}
		if time.Now().After(deadline) {
			n.Fatalf("containers under the profile are still made by %q", by)
		}
	}
	ctx, trace := harness.Traced(n.ctx)
	if out := harness.Must(n.cri.Exec(ctx, id, 60, "cat", "/proc/self/attr/current"))(n); string(out.Stdout) != label || out.ExitCode != 0 {
		n.Errorf("a session's process is under %q, %s", out.Stdout, out.Stderr)
	}
	if steps := names(harness.Must(n.Trace(n.ctx, trace))(n).Spans); !slices.Contains(steps, "enter.execute") {
		n.Errorf("the session was made by %q", steps)
	}
}
