package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

func TestStopSendsItsSignalWaitsAndKills(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("stops")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	for name, tc := range map[string]struct {
		script  string
		change  func(*runtime.ContainerConfig)
		timeout int64
		code    int32
		atLeast time.Duration
		atMost  time.Duration
	}{
		"obedient":    {"trap 'exit 7' TERM; while :; do sleep 0.05; done", nil, 20, 7, 0, 5 * time.Second},
		"own signal":  {"trap 'exit 8' USR1; trap '' TERM; while :; do sleep 0.05; done", func(c *runtime.ContainerConfig) { c.StopSignal = runtime.Signal_SIGNAL_SIGUSR1 }, 20, 8, 0, 5 * time.Second},
		"deaf":        {"trap '' TERM; while :; do sleep 0.05; done", nil, 1, 137, time.Second, 6 * time.Second},
		"at once":     {"trap 'exit 9' TERM; while :; do sleep 0.05; done", nil, 0, 137, 0, 5 * time.Second},
		"ended alone": {"exit 5", nil, 20, 5, 0, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			c := harness.Container(pod, strings.ReplaceAll(name, " ", "-"), n.image, "/bin/sh", "-c", "echo up; "+tc.script)
			if tc.change != nil {
				tc.change(c)
			}
			id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
			waitLog(t, pod, c, "up")
			time.Sleep(50 * time.Millisecond) // the shell sets its traps after it has said so
			from := time.Now()
			if err := n.cri.Stop(n.ctx, id, tc.timeout); err != nil {
				t.Fatal(err)
			}
			took := time.Since(from)
			end := harness.Must(n.cri.Status(n.ctx, id))(t)
			if end.State != runtime.ContainerState_CONTAINER_EXITED || end.ExitCode != tc.code {
				t.Errorf("state %s, code %d, want exited with %d", end.State, end.ExitCode, tc.code)
			}
			if took < tc.atLeast || took > harness.Scale(tc.atMost) {
				t.Errorf("stop took %v, want %v to %v", took, tc.atLeast, tc.atMost)
			}
		})
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestShorterStopWinsOverALongerOne(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("race")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	c := harness.Container(pod, "deaf", n.image, "/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	waitLog(t, pod, c, "up")
	from := time.Now()
	var stops sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		stops.Go(func() {
			timeout := int64(60)
			if i == 7 {
				timeout = 1
			}
			errs[i] = n.cri.Stop(n.ctx, id, timeout)
		})
	}
	stops.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(from); took > harness.Scale(10*time.Second) {
		t.Errorf("twenty stops, the shortest with one second, took %v", took)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestNamespacesAreSharedAsAsked(t *testing.T) {
	n := start(t, harness.Options{})
	t.Run("pid of the pod", func(t *testing.T) {
		pod := n.Pod("shared")
		pod.Linux.SecurityContext.NamespaceOptions.Pid = runtime.NamespaceMode_POD
		sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
		first := harness.Container(pod, "first", n.image, "/bin/sh", "-c", "echo up; exec sleep 1000")
		n.run(sandbox, pod, "other", "sleep", "2000")
		id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, first))(t)
		waitLog(t, pod, first, "up")
		out := harness.Must(n.cri.Exec(n.ctx, id, 10, "/bin/sh", "-c", "ps; cat /proc/1/comm"))(t)
		if text := string(out.Stdout); !strings.Contains(text, "sleep 2000") || !strings.Contains(text, "vitrine-pod") {
			t.Errorf("the sibling and the pod's init are not seen:\n%s", text)
		}
		n.must(n.cri.RemovePod(n.ctx, sandbox))
	})
	t.Run("pid of a target", func(t *testing.T) {
		pod := n.Pod("debugged")
		sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
		target, _ := n.run(sandbox, pod, "app", "sleep", "3000")
		debug := harness.Container(pod, "debugger", n.image, "/bin/sh", "-c", "ps")
		debug.Linux.SecurityContext.NamespaceOptions = &runtime.NamespaceOption{Pid: runtime.NamespaceMode_TARGET, TargetId: target}
		id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, debug))(t)
		harness.Must(n.cri.WaitExit(n.ctx, id))(t)
		waitLog(t, pod, debug, "sleep 3000")
		n.must(n.cri.RemovePod(n.ctx, sandbox))
	})
	t.Run("host's own", func(t *testing.T) {
		pod := n.HostPod("host")
		pod.Linux.SecurityContext.NamespaceOptions.Pid = runtime.NamespaceMode_NODE
		pod.Linux.SecurityContext.NamespaceOptions.Ipc = runtime.NamespaceMode_NODE
		sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
		c := harness.Container(pod, "c", n.image, "/bin/sh", "-c", "for n in pid ipc net; do readlink /proc/self/ns/$n; done")
		id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
		harness.Must(n.cri.WaitExit(n.ctx, id))(t)
		for _, kind := range []string{"pid", "ipc", "net"} {
			waitLog(t, pod, c, harness.Must(os.Readlink("/proc/self/ns/"+kind))(t))
		}
		n.must(n.cri.RemovePod(n.ctx, sandbox))
	})
	n.nothingLeft()
}

func TestUpdatedLimitsAreInForceAndOnRecord(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("resize")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, _ := n.run(sandbox, pod, "c", "sleep", "1000")
	update := func(res *runtime.LinuxContainerResources) error {
		_, err := n.cri.UpdateContainerResources(n.ctx, &runtime.UpdateContainerResourcesRequest{ContainerId: id, Linux: res})
		return err
	}
	n.must(update(&runtime.LinuxContainerResources{MemoryLimitInBytes: 128 << 20, CpuShares: 512}))
	read := func() (int64, int64, uint64) {
		res := harness.Must(n.cri.Status(n.ctx, id))(t).Resources.GetLinux()
		stats := harness.Must(n.cri.ContainerStats(n.ctx, &runtime.ContainerStatsRequest{ContainerId: id}))(t).Stats
		return res.GetMemoryLimitInBytes(), res.GetCpuShares(), stats.GetMemory().GetAvailableBytes().GetValue()
	}
	if memory, shares, available := read(); memory != 128<<20 || shares != 512 || available > 128<<20 {
		t.Errorf("after the update: memory %d, shares %d, available %d", memory, shares, available)
	}
	if err := update(&runtime.LinuxContainerResources{MemoryLimitInBytes: 1 << 20}); err == nil {
		t.Error("a limit below the minimum was accepted")
	}
	if memory, _, _ := read(); memory != 128<<20 {
		t.Errorf("a refused update changed the limit on record to %d", memory)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestOOMKilledContainerSaysSo(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("oom")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	c := harness.Container(pod, "hog", n.image, "/bin/sh", "-c", "exec tail /dev/zero")
	c.Linux.Resources.MemoryLimitInBytes = 32 << 20
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	end := harness.Must(n.cri.WaitExit(n.ctx, id))(t)
	if end.Reason != "OOMKilled" || end.ExitCode != 137 {
		t.Errorf("reason %q, code %d, want OOMKilled with 137", end.Reason, end.ExitCode)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestTimedOutExecLeavesNoProcess(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("probe")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, _ := n.run(sandbox, pod, "c", "sleep", "1000")
	_, err := n.cri.Exec(n.ctx, id, 1, "/bin/sh", "-c", "sleep 4321 & sleep 4321")
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
	out := harness.Must(n.cri.Exec(n.ctx, id, 10, "/bin/sh", "-c", "ps | grep '[4]321' || true"))(t)
	if len(out.Stdout) > 0 {
		t.Errorf("left after the timeout:\n%s", out.Stdout)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestEventsTellAContainersLifeInOrder(t *testing.T) {
	n := start(t, harness.Options{})
	stream, err := n.cri.GetContainerEvents(n.ctx, &runtime.GetEventsRequest{})
	n.must(err)
	received := make(chan string, 100)
	go func() {
		for {
			e, err := stream.Recv()
			if err != nil {
				return
			}
			received <- fmt.Sprintf("%s %s", e.ContainerEventType, e.ContainerId)
		}
	}()
	time.Sleep(200 * time.Millisecond) // until the subscription is there; before it nothing is owed
	pod := n.HostPod("told")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, _ := n.run(sandbox, pod, "c", "true")
	harness.Must(n.cri.WaitExit(n.ctx, id))(t)
	n.must(n.cri.Remove(n.ctx, id))
	for _, want := range []string{"CONTAINER_CREATED_EVENT", "CONTAINER_STARTED_EVENT", "CONTAINER_STOPPED_EVENT", "CONTAINER_DELETED_EVENT"} {
		for {
			var got string
			select {
			case got = <-received:
			case <-time.After(harness.Scale(10 * time.Second)):
				t.Fatalf("no %s", want)
			}
			if !strings.HasSuffix(got, id) {
				continue // the sandbox's own
			}
			if got != want+" "+id {
				t.Errorf("got %s, want %s", got, want)
			}
			break
		}
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// waitLog waits until the container's log contains text.
func waitLog(t *testing.T, pod *runtime.PodSandboxConfig, c *runtime.ContainerConfig, text string) {
	t.Helper()
	if err := harness.AwaitLog(t.Context(), harness.LogPath(pod, c), text); err != nil {
		t.Fatal(err)
	}
}

// mapsUsers tells whether the default handler offers user namespaces: the built-in one
// must, an external one as it says itself.
func mapsUsers(t *testing.T, n *node) bool {
	t.Helper()
	if n.Options.Handler == harness.NativeHandler {
		return true
	}
	for _, h := range harness.Must(n.cri.RuntimeServiceClient.Status(n.ctx, &runtime.StatusRequest{}))(t).RuntimeHandlers {
		if h.Name == "" {
			return h.GetFeatures().GetUserNamespaces()
		}
	}
	return false
}

func TestPodInItsOwnUserNamespaceIsNobodyOnTheHost(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.Pod("mapped")
	ids := []*runtime.IDMapping{{HostId: 200000, ContainerId: 0, Length: 65536}}
	pod.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &runtime.UserNamespace{Mode: runtime.NamespaceMode_POD, Uids: ids, Gids: ids}
	if !mapsUsers(t, n) {
		if _, err := n.cri.RunPod(n.ctx, pod); status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "user namespaces") {
			t.Errorf("a handler without user namespaces: %v", err)
		}
		n.nothingLeft()
		return
	}
	for cause, change := range map[string]func(*runtime.NamespaceOption){
		"map id 0": func(o *runtime.NamespaceOption) { o.UsernsOptions.Uids[0].ContainerId = 1 },
	} {
		bad := proto.CloneOf(pod)
		change(bad.Linux.SecurityContext.NamespaceOptions)
		_, err := n.cri.RunPod(n.ctx, bad)
		if code := status.Code(err); code != codes.Unimplemented && code != codes.InvalidArgument || !strings.Contains(err.Error(), cause) {
			t.Errorf("%v, want it to be refused because of %q", err, cause)
		}
	}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c", "id -u; cat /proc/self/uid_map; echo x > /made && ls -ln /made; echo up; exec sleep 1000")
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	waitLog(t, pod, c, "up")
	raw := harness.Must(os.ReadFile(harness.LogPath(pod, c)))(t)
	if fields := strings.Join(strings.Fields(string(raw)), " "); !strings.Contains(fields, "0 200000 65536") || !strings.Contains(fields, "F 0") {
		t.Errorf("the container is not mapped:\n%s", raw)
	}
	out := harness.Must(n.cri.Exec(n.ctx, id, 10, "/bin/sh", "-c", "cat /proc/self/uid_map"))(t)
	if !strings.Contains(string(out.Stdout), "200000") {
		t.Errorf("an exec is not mapped: %s", out.Stdout)
	}
	info := harness.Must(n.cri.ContainerStatus(n.ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true}))(t).Info["info"]
	var verbose struct{ PID int }
	n.must(json.Unmarshal([]byte(info), &verbose))
	status := harness.Must(os.ReadFile(fmt.Sprintf("/proc/%d/status", verbose.PID)))(t)
	if !strings.Contains(string(status), "Uid:\t200000\t200000") {
		t.Errorf("on the host PID 1 is not uid 200000:\n%s", status)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
