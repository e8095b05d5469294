package cri_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/cri"
	"github.com/vitrine-runtime/vitrine/pod"
)

// subscribed waits until the server has n subscribers.
func (k *kubelet) subscribed(n int) {
	k.t.Helper()
	for range 500 {
		k.node.mu.Lock()
		have := len(k.node.subs)
		k.node.mu.Unlock()
		if have == n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	k.t.Fatalf("the server never had %d subscribers", n)
}

func (k *kubelet) events(ctx context.Context) grpc.ServerStreamingClient[runtime.ContainerEventResponse] {
	k.t.Helper()
	stream, err := k.GetContainerEvents(ctx, &runtime.GetEventsRequest{})
	if err != nil {
		k.t.Fatal(err)
	}
	return stream
}

func TestEventsTellALifeInOrder(t *testing.T) {
	k := newKubelet(t)
	stream := k.events(t.Context())
	k.subscribed(1)
	sandbox, container := k.running("web", 0)
	if _, err := k.RemovePodSandbox(t.Context(), &runtime.RemovePodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Fatal(err)
	}
	names := map[string]string{sandbox: "pod", container: "container"}
	var last int64
	var got []string
	for range 8 {
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if e.GetCreatedAt() < last {
			t.Errorf("event %d is older than the one before", len(got))
		}
		last = e.GetCreatedAt()
		kind := strings.TrimSuffix(strings.TrimPrefix(e.GetContainerEventType().String(), "CONTAINER_"), "_EVENT")
		states := ""
		for _, c := range e.GetContainersStatuses() {
			states += " " + strings.TrimPrefix(c.GetState().String(), "CONTAINER_")
		}
		if e.GetPodSandboxStatus().GetId() != sandbox {
			t.Errorf("event %d has the status of sandbox %q", len(got), e.GetPodSandboxStatus().GetId())
		}
		got = append(got, fmt.Sprintf("%s %s | %s |%s", names[e.GetContainerId()], kind, strings.TrimPrefix(e.GetPodSandboxStatus().GetState().String(), "SANDBOX_"), states))
	}
	want := []string{
		"pod CREATED | READY |",
		"pod STARTED | READY |",
		"container CREATED | READY | CREATED",
		"container STARTED | READY | RUNNING",
		"container STOPPED | READY | EXITED",
		"pod STOPPED | NOTREADY | EXITED",
		"container DELETED | NOTREADY |",
		"pod DELETED | NOTREADY |",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// One client does not read. The other gets everything at once; the slow one is told
// that it missed something after what it did not miss.
func TestSlowSubscriberIsEndedAndDelaysNobody(t *testing.T) {
	const pods = 3000
	k := newKubelet(t, func(c *cri.Config) { c.EventBuffer = 2 * pods })
	slowNode := newKubelet(t, func(c *cri.Config) { c.EventBuffer = 16 })
	slow := slowNode.events(t.Context())
	slowNode.subscribed(1)
	fast := k.events(t.Context())
	k.subscribed(1)
	config := sandboxConfig("web")
	config.Annotations = map[string]string{"size": strings.Repeat("x", 4096)} // so that buffers on the way fill up
	for i := range uint32(pods) {
		c := sandboxConfig("web")
		c.Annotations, c.Metadata.Attempt = config.Annotations, i
		for _, n := range []*node{k.node, slowNode.node} {
			if _, err := n.RunSandbox(t.Context(), c, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 2 * pods {
		if _, err := fast.Recv(); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
	seen := 0
	for {
		e, err := slow.Recv()
		if err != nil {
			wantCode(t, "the slow subscriber", err, codes.ResourceExhausted)
			break
		}
		if want := uint32(seen / 2); e.GetPodSandboxStatus().GetMetadata().GetAttempt() != want {
			t.Fatalf("event %d is of pod %d, so that one before was lost silently", seen, e.GetPodSandboxStatus().GetMetadata().GetAttempt())
		}
		seen++
	}
	if seen == 0 || seen >= 2*pods {
		t.Errorf("the slow subscriber saw %d of %d events", seen, 2*pods)
	}
}

func TestLeavingClientGivesItsQueueBack(t *testing.T) {
	k := newKubelet(t)
	ctx, cancel := context.WithCancel(t.Context())
	k.events(ctx)
	k.subscribed(1)
	cancel()
	k.subscribed(0)
}

func TestCloseEndsEventStreams(t *testing.T) {
	k := newKubelet(t)
	stream := k.events(t.Context())
	k.subscribed(1)
	if err := k.server.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := stream.Recv()
	wantCode(t, "GetContainerEvents", err, codes.Unavailable)
	k.subscribed(0)
}

// Kubelet would end with a status that has no metadata.
func TestEventOfAContainerWithoutItsSandboxHasNoStatusOfOne(t *testing.T) {
	k := newKubelet(t)
	stream := k.events(t.Context())
	k.subscribed(1)
	orphan := pod.Container{ID: pod.NewID(), State: pod.Removing, Config: pod.ContainerConfig{ContainerConfig: containerConfig("orphan", 0)}}
	k.node.mu.Lock()
	k.node.publish(pod.ContainerRemoved, pod.Sandbox{}, &orphan)
	k.node.mu.Unlock()
	e, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if e.GetContainerId() != string(orphan.ID) || e.GetContainerEventType() != runtime.ContainerEventType_CONTAINER_DELETED_EVENT || e.PodSandboxStatus != nil {
		t.Errorf("got %v", e)
	}
}
