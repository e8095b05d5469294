package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// A container that may trace every process of its pod finds nothing of the host by the
// first process of the namespace that the pod's containers share.
func TestFirstProcessOfAPodIsNoDoorToTheHost(t *testing.T) {
	n := start(t, harness.Options{})
	marker := filepath.Join(t.TempDir(), "of-the-host")
	n.must(os.WriteFile(marker, []byte("seen"), 0o644))
	pod := n.Pod("door")
	pod.Linux.SecurityContext.NamespaceOptions.Pid = runtime.NamespaceMode_POD
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	c := harness.Container(pod, "tracer", n.image, "/bin/sh", "-c", `cat /proc/1/comm
cat /proc/1/root`+marker+` /proc/1/cwd`+marker+` 2>/dev/null
echo root: $(ls -A /proc/1/root/); echo descriptors: $(ls /proc/1/fd)
grep -E '^(CapPrm|CapBnd|Seccomp):' /proc/1/status | tr -s '\t' ' '
`)
	c.Linux.SecurityContext.Capabilities = &runtime.Capability{AddCapabilities: []string{"SYS_PTRACE"}}
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	harness.Must(n.cri.WaitExit(n.ctx, id))(t)
	n.stdout(pod, c, "vitrine-pod\nroot:\ndescriptors:\nCapPrm: 0000000000000000\nCapBnd: 0000000000000000\nSeccomp: 2\n")
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// Containers of a pod with its own users share its process namespace, which is of these
// users too, and outlives the daemon.
func TestPodWithItsOwnUsersSharesItsProcesses(t *testing.T) {
	n := start(t, harness.Options{})
	if !mapsUsers(t, n) {
		t.Skip("the handler has no user namespaces; TestPodInItsOwnUserNamespaceIsNobodyOnTheHost has its refusal")
	}
	pod := n.Pod("mapped-shared")
	ids := []*runtime.IDMapping{{HostId: 200000, ContainerId: 0, Length: 65536}}
	pod.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &runtime.UserNamespace{Mode: runtime.NamespaceMode_POD, Uids: ids, Gids: ids}
	pod.Linux.SecurityContext.NamespaceOptions.Pid = runtime.NamespaceMode_POD
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	sibling, _ := n.run(sandbox, pod, "sibling", "/bin/sleep", "3210")
	c := harness.Container(pod, "c", n.image, "/bin/sleep", "2000")
	c.Linux.SecurityContext.Capabilities = &runtime.Capability{AddCapabilities: []string{"SYS_PTRACE"}}
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	inside := func(script string) string {
		r := harness.Must(n.cri.Exec(n.ctx, id, 60, "/bin/sh", "-c", script))(t)
		return string(r.Stdout)
	}
	if text := inside("ps; cat /proc/1/comm; cat /proc/self/uid_map"); !strings.Contains(text, "sleep 3210") || !strings.Contains(text, "vitrine-pod") || !strings.Contains(text, "200000") {
		t.Errorf("the sibling, the pod's init or the mapping is not seen:\n%s", text)
	}
	if text := inside("ls -A /proc/1/root/ 2>&1; kill -9 1; cat /proc/1/comm"); !strings.Contains(text, "vitrine-pod") || strings.Contains(text, "etc") {
		t.Errorf("the pod's init is not left alone:\n%s", text)
	}
	n.must(n.Kill9())
	n.must(n.Start(n.ctx))
	const find = `for p in /proc/[0-9]*; do if grep -q '^/bin/sleep.3210' $p/cmdline; then kill ${p#/proc/} && echo killed; fi; done`
	if text := inside(find); text != "killed\n" {
		t.Errorf("the sibling cannot be signalled: %s", text)
	}
	if s := harness.Must(n.cri.WaitExit(n.ctx, sibling))(t); s.ExitCode != 143 {
		t.Errorf("the sibling ended with %d, %s", s.ExitCode, s.Message)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
