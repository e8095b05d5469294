package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

func TestPodWithInitContainerTwoContainersAndNetwork(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.Pod("web")
	pod.PortMappings = []*runtime.PortMapping{{Protocol: runtime.Protocol_TCP, ContainerPort: 8080, HostPort: freePort(t)}}
	shared := filepath.Join(n.Dir, "shared")
	n.must(os.Mkdir(shared, 0o777))
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)

	status := harness.Must(n.cri.PodStatus(n.ctx, sandbox))(t)
	if status.State != runtime.PodSandboxState_SANDBOX_READY || !strings.HasPrefix(status.Network.GetIp(), strings.TrimSuffix(n.Subnet, "0/24")) {
		t.Fatalf("sandbox is %v with address %q, want ready in %s", status.State, status.Network.GetIp(), n.Subnet)
	}

	// The init container leaves a file for the others and ends.
	init := harness.Container(pod, "init", n.image, "/bin/sh", "-c", "echo preparing; echo ready >/shared/state")
	mount := []*runtime.Mount{{ContainerPath: "/shared", HostPath: shared}}
	init.Mounts = mount
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, init))(t)
	exit := harness.Must(n.cri.WaitExit(n.ctx, id))(t)
	if exit.ExitCode != 0 || exit.Reason != "Completed" {
		t.Fatalf("init container: exit code %d, reason %q, %s", exit.ExitCode, exit.Reason, exit.Message)
	}
	n.stdout(pod, init, "preparing\n")

	web := harness.Container(pod, "web", n.image, "/bin/sh", "-c", "cat /shared/state; hostname; exec httpd -f -p 8080 -h /shared")
	web.Mounts = mount
	webID := harness.Must(n.cri.Run(n.ctx, sandbox, pod, web))(t)
	side := harness.Container(pod, "side", n.image, "/bin/sh", "-c", "until wget -q -O - http://127.0.0.1:8080/state; do sleep 0.1; done; exec payload wait")
	sideID := harness.Must(n.cri.Run(n.ctx, sandbox, pod, side))(t)
	n.stdout(pod, web, "ready\nweb\n")
	n.stdout(pod, side, "ready\nwaiting\n") // the two share the pod's network

	t.Run("exec sync", func(t *testing.T) {
		r := harness.Must(n.cri.Exec(n.ctx, webID, 10, "/bin/sh", "-c", "echo out; echo err >&2; exit 7"))(t)
		if string(r.Stdout) != "out\n" || string(r.Stderr) != "err\n" || r.ExitCode != 7 {
			t.Errorf("got %q, %q, %d", r.Stdout, r.Stderr, r.ExitCode)
		}
	})
	t.Run("host port", func(t *testing.T) {
		port := pod.PortMappings[0].HostPort
		for _, host := range []string{"127.0.0.1", hostAddress(t, n)} {
			if got := fetch(t, fmt.Sprintf("http://%s:%d/state", host, port)); got != "ready\n" {
				t.Errorf("through %s: %q", host, got)
			}
		}
	})
	t.Run("streams", func(t *testing.T) { streams(t, n, sandbox, webID, pod) })
	t.Run("stats", func(t *testing.T) { stats(t, n, sandbox, webID) })
	t.Run("lists", func(t *testing.T) {
		list := harness.Must(n.cri.ListContainers(n.ctx, &runtime.ListContainersRequest{Filter: &runtime.ContainerFilter{PodSandboxId: sandbox}}))(t)
		states := map[string]runtime.ContainerState{}
		for _, c := range list.Containers {
			states[c.Metadata.Name] = c.State
		}
		want := map[string]runtime.ContainerState{"init": runtime.ContainerState_CONTAINER_EXITED, "web": runtime.ContainerState_CONTAINER_RUNNING, "side": runtime.ContainerState_CONTAINER_RUNNING}
		if fmt.Sprint(states) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", states, want)
		}
	})

	n.must(n.cri.Stop(n.ctx, sideID, 10))
	n.stdout(pod, side, "ready\nwaiting\nterminated\n")
	if s := harness.Must(n.cri.Status(n.ctx, sideID))(t); s.ExitCode != 0 || s.State != runtime.ContainerState_CONTAINER_EXITED {
		t.Errorf("after SIGTERM: %v, exit code %d", s.State, s.ExitCode)
	}
	n.must(n.cri.Stop(n.ctx, webID, 0))
	if s := harness.Must(n.cri.Status(n.ctx, webID))(t); s.ExitCode != 137 {
		t.Errorf("after a stop without patience: exit code %d, want 137", s.ExitCode)
	}
	n.must(n.cri.Remove(n.ctx, sideID))
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestPodsReachEachOtherByAddress(t *testing.T) {
	n := start(t, harness.Options{})
	server, client := n.Pod("server"), n.Pod("client")
	one := harness.Must(n.cri.RunPod(n.ctx, server))(t)
	two := harness.Must(n.cri.RunPod(n.ctx, client))(t)
	n.run(one, server, "httpd", "/bin/sh", "-c", "echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp")
	ip := harness.Must(n.cri.PodStatus(n.ctx, one))(t).Network.Ip
	_, c := n.run(two, client, "wget", "/bin/sh", "-c", "until wget -q -O - http://"+ip+"/; do sleep 0.1; done")
	n.stdout(client, c, "hello\n")
	n.must(n.cri.RemoveAll(n.ctx))
	n.nothingLeft()
}

func TestRemovedSandboxTakesItsRunningContainersAlong(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.Pod("busy")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	n.run(sandbox, pod, "deaf", "/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done")
	n.run(sandbox, pod, "many", "/bin/payload", "spawn", "5")
	from := time.Now()
	harness.Must(n.cri.RemovePodSandbox(n.ctx, &runtime.RemovePodSandboxRequest{PodSandboxId: sandbox}))(t)
	if took := time.Since(from); took > harness.Scale(10*time.Second) {
		t.Errorf("removal took %v", took)
	}
	n.nothingLeft()
}

func TestIdentityOfTheProcessIsWhatWasAsked(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("ids")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	for name, tc := range map[string]struct {
		change func(*runtime.LinuxContainerSecurityContext)
		want   string
	}{
		"root": {func(*runtime.LinuxContainerSecurityContext) {}, "0:0:0"},
		"uid and gid": {func(s *runtime.LinuxContainerSecurityContext) {
			s.RunAsUser, s.RunAsGroup = &runtime.Int64Value{Value: 1234}, &runtime.Int64Value{Value: 5678}
		}, "1234:5678:5678"},
		"name with groups of the image": {func(s *runtime.LinuxContainerSecurityContext) { s.RunAsUsername = "app" }, "1000:1000:1000 2000"},
		"merged groups": {func(s *runtime.LinuxContainerSecurityContext) {
			s.RunAsUsername, s.SupplementalGroups = "app", []int64{77}
		}, "1000:1000:77 1000 2000"},
		"strict groups": {func(s *runtime.LinuxContainerSecurityContext) {
			s.RunAsUsername, s.SupplementalGroups = "app", []int64{77}
			s.SupplementalGroupsPolicy = runtime.SupplementalGroupsPolicy_Strict
		}, "1000:1000:77 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			m := *n
			m.TB = t
			c := harness.Container(pod, strings.ReplaceAll(name, " ", "-"), n.image, "/bin/sh", "-c", `g=$(for x in $(id -G); do echo $x; done | sort -n | uniq); echo "$(id -u):$(id -g):"$g`)
			tc.change(c.Linux.SecurityContext)
			id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
			harness.Must(n.cri.WaitExit(n.ctx, id))(t)
			m.stdout(pod, c, tc.want+"\n")
		})
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
