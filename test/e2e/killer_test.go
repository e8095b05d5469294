package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// exitOf is the exit on the container's record.
func (n *node) exitOf(id string) (x pod.Exit) {
	n.Helper()
	s := harness.Must(n.cri.ContainerStatus(n.ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true}))(n)
	var info struct{ Exit pod.Exit }
	if err := json.Unmarshal([]byte(s.Info["info"]), &info); err != nil {
		n.Fatal(err)
	}
	return info.Exit
}

func TestWhoEndedIt(t *testing.T) {
	n := start(t, harness.Options{})
	n.NeedWatch(t)
	profile := filepath.Join(n.Dir, "kill.json")
	n.must(os.WriteFile(profile, fmt.Appendf(nil, `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["swapoff"],"action":"SCMP_ACT_KILL_PROCESS"}]}`), 0o644))
	for _, tc := range []struct {
		name    string
		command []string
		change  func(*runtime.ContainerConfig)
		then    func(n *node, p *runtime.PodSandboxConfig, sandbox, id string)
		signal  int
		from    string
		says    []string
	}{
		{name: "host root", command: []string{"/bin/payload", "wait"}, signal: 9, from: pod.FromHost, says: []string{"SIGKILL", fmt.Sprintf("on the host (pid %d, uid 0)", os.Getpid())},
			then: func(n *node, _ *runtime.PodSandboxConfig, _, id string) { killInit(n, id) }},
		{name: "sibling container", command: []string{"/bin/payload", "wait"}, signal: 9, from: pod.FromOther, says: []string{"SIGKILL", `"payload" in container killer`},
			then: func(n *node, p *runtime.PodSandboxConfig, sandbox, id string) {
				c := harness.Container(p, "killer", n.image, "/bin/payload", "kill", fmt.Sprint(initPID(n, n, id)))
				c.Linux.SecurityContext.NamespaceOptions = &runtime.NamespaceOption{Network: runtime.NamespaceMode_NODE, Pid: runtime.NamespaceMode_NODE}
				killer := harness.Must(n.cri.Run(n.ctx, sandbox, p, c))(n)
				if s := harness.Must(n.cri.WaitExit(n.ctx, killer))(n); s.ExitCode != 0 {
					n.Errorf("the killer failed with %d", s.ExitCode)
				}
			}},
		{name: "its own child", command: []string{"/bin/sh", "-c", "/bin/payload kill $$; sleep 1000"}, signal: 9, from: pod.FromContainer, says: []string{"SIGKILL", `"payload" in the container`},
			change: func(c *runtime.ContainerConfig) {
				c.Linux.SecurityContext.NamespaceOptions = &runtime.NamespaceOption{Network: runtime.NamespaceMode_NODE, Pid: runtime.NamespaceMode_NODE}
			}},
		{name: "itself", command: []string{"/bin/payload", "abort"}, signal: 6, from: pod.FromSelf, says: []string{"SIGABRT", "itself"},
			change: func(c *runtime.ContainerConfig) {
				c.Linux.SecurityContext.NamespaceOptions = &runtime.NamespaceOption{Network: runtime.NamespaceMode_NODE, Pid: runtime.NamespaceMode_NODE}
			}},
		{name: "a fault", command: []string{"/bin/payload", "fault"}, signal: 11, from: pod.FromKernel, says: []string{"SIGSEGV", "address 0x"}},
		{name: "seccomp", command: []string{"/bin/payload", "syscall", fmt.Sprint(unix.SYS_SWAPOFF)}, signal: 31, from: pod.FromKernel, says: []string{"SIGSYS", "seccomp does not allow the system call swapoff"},
			change: func(c *runtime.ContainerConfig) {
				c.Linux.SecurityContext.Seccomp = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Localhost, LocalhostRef: profile}
			}},
		{name: "StopContainer, before the grace period is over", command: []string{"/bin/payload", "wait"}, says: []string{"exited with 0", "after StopContainer sent SIGTERM, within the grace period of 1m0s", "(trace "},
			then: func(n *node, _ *runtime.PodSandboxConfig, _, id string) { n.must(n.cri.Stop(n.ctx, id, 60)) }},
		{name: "StopContainer, after it", command: []string{"/bin/sh", "-c", "echo ready; trap '' TERM; while :; do sleep 0.1; done"}, signal: 9, from: pod.FromRuntime,
			says: []string{"killed by StopContainer: the grace period of 1s after SIGTERM expired", "(trace "},
			then: func(n *node, _ *runtime.PodSandboxConfig, _, id string) { n.must(n.cri.Stop(n.ctx, id, 1)) }},
		{name: "StopContainer at once", command: []string{"/bin/sh", "-c", "echo ready; trap '' TERM; while :; do sleep 0.1; done"}, signal: 9, from: pod.FromRuntime, says: []string{"killed on request, without a grace period"},
			then: func(n *node, _ *runtime.PodSandboxConfig, _, id string) { n.must(n.cri.Stop(n.ctx, id, 0)) }},
		{name: "somebody else, during the grace period", command: []string{"/bin/sh", "-c", "echo ready; trap '' TERM; while :; do sleep 0.1; done"}, signal: 9, from: pod.FromHost,
			says: []string{"on the host", "while StopContainer waited"},
			then: func(n *node, _ *runtime.PodSandboxConfig, _, id string) {
				pid, stopped := initPID(n, n, id), make(chan error, 1)
				go func() { stopped <- n.cri.Stop(n.ctx, id, 100) }()
				n.stopping(id)
				n.must(syscall.Kill(pid, syscall.SIGKILL))
				n.must(<-stopped)
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := *n
			m.TB = t
			p := n.HostPod("killed")
			sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
			c := harness.Container(p, "c", n.image, tc.command...)
			if tc.change != nil {
				tc.change(c)
			}
			id := harness.Must(n.cri.Run(n.ctx, sandbox, p, c))(t)
			if strings.Contains(strings.Join(tc.command, " "), "echo ready") {
				waitLog(t, p, c, "ready")
			} else if tc.command[len(tc.command)-1] == "wait" {
				waitLog(t, p, c, "waiting")
			}
			if tc.then != nil {
				tc.then(&m, p, sandbox, id)
			}
			s := harness.Must(n.cri.WaitExit(n.ctx, id))(t)
			x := m.exitOf(id)
			t.Logf("%s: %s", s.Reason, s.Message)
			from := ""
			if x.Sender != nil {
				from = x.Sender.From
			}
			if x.Signal != tc.signal || from != tc.from || s.Reason == "OOMKilled" {
				t.Errorf("signal %d from %q, reason %q; want %d from %q", x.Signal, from, s.Reason, tc.signal, tc.from)
			}
			for _, say := range tc.says {
				if !strings.Contains(s.Message, say) {
					t.Errorf("the message does not say %q: %q", say, s.Message)
				}
			}
			m.must(n.cri.RemovePod(n.ctx, sandbox))
		})
	}
	n.nothingLeft()
}

// stopping waits until a request to stop the container is on its record.
func (n *node) stopping(id string) {
	n.Helper()
	deadline := time.Now().Add(harness.Scale(30 * time.Second))
	for {
		s := harness.Must(n.cri.ContainerStatus(n.ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true}))(n)
		var info struct{ State pod.State }
		if err := json.Unmarshal([]byte(s.Info["info"]), &info); err != nil {
			n.Fatal(err)
		}
		if info.State == pod.Stopping {
			return
		}
		if time.Now().After(deadline) {
			n.Fatalf("the container is %v, not stopping", info.State)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestWithoutBPFTheSenderIsNotInvented(t *testing.T) {
	n := start(t, harness.Options{Config: blind})
	p := n.HostPod("unseen")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	id, c := n.run(sandbox, p, "c", "/bin/payload", "wait")
	waitLog(t, p, c, "waiting")
	killInit(n, id)
	n.exited(id)
	if x := n.exitOf(id); x.Sender != nil || x.Reason != "Error" || !strings.Contains(x.Message, "who sent it was not observed") {
		t.Errorf("%+v", x)
	}
	if n := len(harness.Must(n.Census())(t).Items[harness.Pins]); n != 0 {
		t.Errorf("%d pins of programs that are switched off", n)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
