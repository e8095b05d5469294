package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// Sizes of the crowd, and of what happens in it.
const (
	crowdContainers  = 5000
	crowdSubscribers = 50
	crowdLists       = 200
	crowdPods        = 24
)

// With thousands of containers on record and fifty subscribers, of which one never
// reads, lists stay quick while pods come and go, every reader sees every exit, and
// the daemon does not grow.
func TestCrowdIsListedQuicklyWhilePodsComeAndGo(t *testing.T) {
	factor, emulated := harness.Emulated()
	crowdContainers, crowdLists := crowdContainers/factor, crowdLists/factor
	n := start(t, harness.Options{LogLevel: "info"})
	n.ctx = harness.Context(t, 5*time.Minute)
	n.must(n.Stop())
	endedContainers(t, n, crowdContainers)
	n.must(n.Start(n.ctx))
	if got := len(harness.Must(n.cri.ListContainers(n.ctx, &runtime.ListContainersRequest{}))(t).Containers); got != crowdContainers {
		t.Fatalf("%d containers are listed, want %d", got, crowdContainers)
	}
	// Decoding is the client's time and as long as the rest: lists are timed without it, and
	// during the storm every fourth one with it.
	decoded := func() {
		if got := len(harness.Must(n.cri.ListContainers(n.ctx, &runtime.ListContainersRequest{}))(t).Containers); got < crowdContainers {
			t.Errorf("%d containers are listed, want %d and more", got, crowdContainers)
		}
	}
	list := func() {
		var raw []byte
		n.must(n.cri.Conn.Invoke(n.ctx, runtime.RuntimeService_ListContainers_FullMethodName, &runtime.ListContainersRequest{}, &raw, grpc.ForceCodec(undecoded{})))
		if len(raw) < crowdContainers*100 {
			t.Errorf("%d bytes are no list of %d containers", len(raw), crowdContainers)
		}
	}

	exits := make([]atomic.Int64, crowdSubscribers)
	ctx, stop := context.WithCancel(n.ctx)
	defer stop()
	var readers sync.WaitGroup
	for i := range crowdSubscribers {
		stream := harness.Must(n.cri.GetContainerEvents(ctx, &runtime.GetEventsRequest{}))(t)
		if i == 0 {
			continue // this one never reads
		}
		readers.Go(func() {
			for {
				e, err := stream.Recv()
				if err != nil {
					return
				}
				if e.ContainerEventType == runtime.ContainerEventType_CONTAINER_STOPPED_EVENT && e.ContainerId != e.PodSandboxStatus.GetId() {
					exits[i].Add(1)
				}
			}
		})
	}
	subscribed(t, n, exits[1:])

	spent := cpuTime(t, n.PID())
	for range crowdLists {
		list()
	}
	perList := (cpuTime(t, n.PID()) - spent) / time.Duration(crowdLists)
	var before int64 // once the heap has the size that lists during a storm give it
	storm := make(chan error, 1)
	go func() { storm <- comeAndGo(n, crowdPods) }()
	timed := func(list func()) time.Duration {
		from := time.Now()
		list()
		return time.Since(from)
	}
	var took, whole []time.Duration
	for running := true; running || len(took) < crowdLists; {
		took = append(took, timed(list))
		if len(took)%4 == 0 {
			whole = append(whole, timed(decoded))
		}
		if len(took) == crowdLists/2 {
			before = residentBytes(t, n.PID())
		}
		select {
		case err := <-storm:
			n.must(err)
			running = false
		default:
		}
	}
	slices.Sort(took)
	slices.Sort(whole)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	grown := residentBytes(t, n.PID()) - before
	t.Logf("%d lists of %d containers: p50 %v, p99 %v in the storm (decoded by the client: %v, %v of %d), %v of CPU time each before it; the daemon grew by %d KiB",
		len(took), crowdContainers, p50, p99, whole[len(whole)/2], whole[len(whole)*99/100], len(whole), perList, grown>>10)
	if limit := harness.Scale(50 * time.Millisecond); perList > limit && !emulated {
		t.Errorf("a list costs the daemon %v of CPU time, more than %v", perList, limit)
	}
	if limit := harness.Scale(500 * time.Millisecond); p99 > limit && !emulated {
		t.Errorf("p99 of a list is %v, more than %v", p99, limit)
	}
	if grown > 64<<20 {
		t.Errorf("the daemon grew by %d MiB", grown>>20)
	}
	waitCounts(t, exits[1:], crowdPods+1)
	stop()
	readers.Wait()
}

// undecoded receives a message as the bytes that came.
type undecoded struct{}

func (undecoded) Name() string { return "proto" }

func (undecoded) Marshal(v any) ([]byte, error) { return proto.Marshal(v.(proto.Message)) }

func (undecoded) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// endedContainers writes records of containers that have ended, in pods that are
// stopped, as a daemon would find them after a long life.
func endedContainers(t *testing.T, n *node, count int) {
	t.Helper()
	store := harness.Must(pod.OpenStore(n.State()))(t)
	const perPod = 100
	var sb pod.Sandbox
	var request *runtime.PodSandboxConfig
	long := time.Now().Add(-time.Hour)
	for i := range count {
		if i%perPod == 0 {
			request = n.HostPod(fmt.Sprint("old", i))
			sb = pod.Sandbox{ID: pod.NewID(), State: pod.NotReady, Config: pod.SandboxConfig{PodSandboxConfig: request}, CreatedAt: long}
			n.must(store.PutSandbox(sb))
		}
		c := harness.Container(request, fmt.Sprint("c", i), n.image, "true")
		n.must(store.PutContainer(pod.Container{
			ID: pod.NewID(), SandboxID: sb.ID, State: pod.Exited, Config: pod.ContainerConfig{ContainerConfig: c}, Image: pod.ImageRef{ID: n.image, User: n.image},
			CreatedAt: long, StartedAt: long, FinishedAt: long, Exit: &pod.Exit{Reason: "Completed", Source: "monitor"},
		}))
	}
}

// comeAndGo runs pods with one short container each and removes them, two at a time.
func comeAndGo(n *node, pods int) error {
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for worker := range errs {
		wg.Go(func() {
			for i := range pods / len(errs) {
				if errs[worker] = onePod(n, fmt.Sprintf("storm%d-%d", worker, i)); errs[worker] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func onePod(n *node, name string) error {
	request := n.HostPod(name)
	sandbox, err := n.cri.RunPod(n.ctx, request)
	if err != nil {
		return err
	}
	id, err := n.cri.Run(n.ctx, sandbox, request, harness.Container(request, "c", n.image, "true"))
	if err != nil {
		return err
	}
	if _, err := n.cri.WaitExit(n.ctx, id); err != nil {
		return err
	}
	return n.cri.RemovePod(n.ctx, sandbox)
}

// subscribed runs pods until every reader has seen one's exit, and sets them all to one.
func subscribed(t *testing.T, n *node, exits []atomic.Int64) {
	t.Helper()
	n.must(onePod(n, "first"))
	waitCounts(t, exits, 1)
}

func waitCounts(t *testing.T, exits []atomic.Int64, want int64) {
	t.Helper()
	deadline := time.Now().Add(harness.Scale(time.Minute))
	for i := range exits {
		for exits[i].Load() < want {
			if time.Now().After(deadline) {
				t.Fatalf("reader %d has seen %d exits, want %d", i+1, exits[i].Load(), want)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// cpuTime is what a process's threads have used, to a hundredth of a second.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	raw := string(harness.Must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)))(t))
	fields := strings.Fields(raw[strings.LastIndex(raw, ")")+1:]) // proc_pid_stat(5), from the third on
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * time.Second / 100 // USER_HZ is 100 on every architecture that Linux still has
}

func residentBytes(t *testing.T, pid int) int64 {
	t.Helper()
	raw := harness.Must(os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid)))(t)
	var size, resident int64
	if _, err := fmt.Sscan(strings.TrimSpace(string(raw)), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}
