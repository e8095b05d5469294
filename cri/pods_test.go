package cri_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestStatusesHaveEveryField(t *testing.T) {
	k := newKubelet(t)
	sandbox, container := k.running("web", 2)
	before := time.Now().UnixNano()
	sb, err := k.PodSandboxStatus(t.Context(), &runtime.PodSandboxStatusRequest{PodSandboxId: sandbox})
	if err != nil {
		t.Fatal(err)
	}
	if sb.GetTimestamp() < before || sb.GetTimestamp() > time.Now().UnixNano() || len(sb.GetContainersStatuses()) != 1 || len(sb.GetInfo()) != 0 {
		t.Errorf("timestamp %d, %d containers, info %v", sb.GetTimestamp(), len(sb.GetContainersStatuses()), sb.GetInfo())
	}
	checkMessage(t, "sandbox-ready", sb.GetStatus())
	checkMessage(t, "container-running", sb.GetContainersStatuses()[0])
	if _, err := k.StopContainer(t.Context(), &runtime.StopContainerRequest{ContainerId: container}); err != nil {
		t.Fatal(err)
	}
	c, err := k.ContainerStatus(t.Context(), &runtime.ContainerStatusRequest{ContainerId: container, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	checkMessage(t, "container-exited", c.GetStatus())
	var info struct{ PID int }
	if err := json.Unmarshal([]byte(c.GetInfo()["info"]), &info); err != nil || info.PID != 42 {
		t.Errorf("verbose info %v, %v", c.GetInfo(), err)
	}
}

func TestEveryStateHasItsWord(t *testing.T) {
	k := newKubelet(t)
	sandbox, container := k.running("web", 0)
	for state, want := range map[pod.State]runtime.ContainerState{
		pod.Created: 0, pod.Starting: 0, pod.Running: 1, pod.Stopping: 1, pod.Exited: 2, pod.Removing: 2,
	} {
		k.node.force(container, state)
		c, err := k.ContainerStatus(t.Context(), &runtime.ContainerStatusRequest{ContainerId: container})
		if err != nil || c.GetStatus().GetState() != want {
			t.Errorf("container %s: %v, %v, want %v", state, c.GetStatus().GetState(), err, want)
		}
		if ended := c.GetStatus().GetFinishedAt() != 0 || c.GetStatus().GetReason() != ""; ended && want != 2 {
			t.Errorf("container %s: an end is reported", state)
		}
	}
	if c, _ := k.ContainerStatus(t.Context(), &runtime.ContainerStatusRequest{ContainerId: container}); c.GetStatus().GetState() == 2 &&
		(c.GetStatus().GetExitCode() != -1 || c.GetStatus().GetReason() != "Unknown") {
		t.Errorf("an end that nobody saw: exit code %d, reason %q", c.GetStatus().GetExitCode(), c.GetStatus().GetReason())
	}
	for state, want := range map[pod.State]runtime.PodSandboxState{
		pod.Ready: 0, pod.Stopping: 1, pod.NotReady: 1, pod.Removing: 1,
	} {
		k.node.force(sandbox, state)
		sb, err := k.PodSandboxStatus(t.Context(), &runtime.PodSandboxStatusRequest{PodSandboxId: sandbox})
		if err != nil || sb.GetStatus().GetState() != want {
			t.Errorf("sandbox %s: %v, %v, want %v", state, sb.GetStatus().GetState(), err, want)
		}
	}
}

func TestUnknownIDs(t *testing.T) {
	k := newKubelet(t)
	ctx, id := t.Context(), string(pod.NewID())
	for name, call := range map[string]func() error{
		"StopPodSandbox": func() error {
			_, err := k.StopPodSandbox(ctx, &runtime.StopPodSandboxRequest{PodSandboxId: id})
			return err
		},
		"RemovePodSandbox": func() error {
			_, err := k.RemovePodSandbox(ctx, &runtime.RemovePodSandboxRequest{PodSandboxId: id})
			return err
		},
		"StopContainer": func() error {
			_, err := k.StopContainer(ctx, &runtime.StopContainerRequest{ContainerId: id})
			return err
		},
		"RemoveContainer": func() error {
			_, err := k.RemoveContainer(ctx, &runtime.RemoveContainerRequest{ContainerId: id})
			return err
		},
		"RemoveImage": func() error {
			_, err := k.RemoveImage(ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: "none"}})
			return err
		},
	} {
		wantCode(t, name, call(), codes.OK)
	}
	cmd := []string{"true"}
	for name, call := range map[string]func() error{
		"PodSandboxStatus": func() error {
			_, err := k.PodSandboxStatus(ctx, &runtime.PodSandboxStatusRequest{PodSandboxId: id})
			return err
		},
		"CreateContainer": func() error {
			_, err := k.CreateContainer(ctx, &runtime.CreateContainerRequest{PodSandboxId: id, Config: containerConfig("a", 0)})
			return err
		},
		"StartContainer": func() error {
			_, err := k.StartContainer(ctx, &runtime.StartContainerRequest{ContainerId: id})
			return err
		},
		"ContainerStatus": func() error {
			_, err := k.ContainerStatus(ctx, &runtime.ContainerStatusRequest{ContainerId: id})
			return err
		},
		"UpdateContainerResources": func() error {
			_, err := k.UpdateContainerResources(ctx, &runtime.UpdateContainerResourcesRequest{ContainerId: id, Linux: &runtime.LinuxContainerResources{}})
			return err
		},
		"ReopenContainerLog": func() error {
			_, err := k.ReopenContainerLog(ctx, &runtime.ReopenContainerLogRequest{ContainerId: id})
			return err
		},
		"ExecSync": func() error {
			_, err := k.ExecSync(ctx, &runtime.ExecSyncRequest{ContainerId: id, Cmd: cmd})
			return err
		},
		"Exec": func() error {
			_, err := k.Exec(ctx, &runtime.ExecRequest{ContainerId: id, Cmd: cmd, Stdout: true})
			return err
		},
		"Attach": func() error {
			_, err := k.Attach(ctx, &runtime.AttachRequest{ContainerId: id, Stdout: true})
			return err
		},
		"PortForward": func() error { _, err := k.PortForward(ctx, &runtime.PortForwardRequest{PodSandboxId: id}); return err },
		"ContainerStats": func() error {
			_, err := k.ContainerStats(ctx, &runtime.ContainerStatsRequest{ContainerId: id})
			return err
		},
		"PodSandboxStats": func() error {
			_, err := k.PodSandboxStats(ctx, &runtime.PodSandboxStatsRequest{PodSandboxId: id})
			return err
		},
	} {
		wantCode(t, name, call(), codes.NotFound)
	}
	if r, err := k.ImageStatus(ctx, &runtime.ImageStatusRequest{Image: &runtime.ImageSpec{Image: "none"}}); err != nil || r.GetImage() != nil {
		t.Errorf("ImageStatus of an absent image: %v, %v", r, err)
	}
	if r, err := k.ListContainers(ctx, &runtime.ListContainersRequest{Filter: &runtime.ContainerFilter{Id: id}}); err != nil || len(r.GetContainers()) != 0 {
		t.Errorf("ListContainers of an unknown id: %v, %v", r, err)
	}
}

func TestStopAndRemoveMayBeRepeated(t *testing.T) {
	k := newKubelet(t)
	sandbox, container := k.running("web", 0)
	for range 2 {
		_, err := k.StopContainer(t.Context(), &runtime.StopContainerRequest{ContainerId: container, Timeout: -1})
		wantCode(t, "StopContainer", err, codes.OK)
	}
	for range 2 {
		_, err := k.RemoveContainer(t.Context(), &runtime.RemoveContainerRequest{ContainerId: container})
		wantCode(t, "RemoveContainer", err, codes.OK)
	}
	for range 2 {
		_, err := k.StopPodSandbox(t.Context(), &runtime.StopPodSandboxRequest{PodSandboxId: sandbox})
		wantCode(t, "StopPodSandbox", err, codes.OK)
	}
	for range 2 {
		_, err := k.RemovePodSandbox(t.Context(), &runtime.RemovePodSandboxRequest{PodSandboxId: sandbox})
		wantCode(t, "RemovePodSandbox", err, codes.OK)
	}
}

// What is missing inside a pod's stop is not a pod that is missing.
func TestStopFailsWhenSomethingElseIsNotFound(t *testing.T) {
	k := newKubelet(t)
	sandbox := k.run("web")
	k.node.stopFails = pod.ErrNotFound // as a network's configuration may be
	_, err := k.StopPodSandbox(t.Context(), &runtime.StopPodSandboxRequest{PodSandboxId: sandbox})
	wantCode(t, "StopPodSandbox", err, codes.NotFound)
}

func TestUniquePrefixNamesAnObject(t *testing.T) {
	k := newKubelet(t)
	_, container := k.running("web", 0)
	c, err := k.ContainerStatus(t.Context(), &runtime.ContainerStatusRequest{ContainerId: container[:12]})
	if err != nil || c.GetStatus().GetId() != container {
		t.Fatalf("%v, %v", c, err)
	}
	for i := range uint32(17) { // two of them begin with the same digit
		k.create(k.run("other"), "c", i)
	}
	ambiguous := false
	for _, digit := range "0123456789abcdef" {
		if _, err := k.RemoveContainer(t.Context(), &runtime.RemoveContainerRequest{ContainerId: string(digit)}); err != nil {
			wantCode(t, "RemoveContainer of an ambiguous prefix", err, codes.InvalidArgument)
			ambiguous = true
		}
	}
	if !ambiguous {
		t.Error("18 containers were told apart by one digit")
	}
}

func TestFiltersAreAnded(t *testing.T) {
	k := newKubelet(t)
	web, running := k.running("web", 0)
	k.create(web, "web", 1)
	db, _ := k.running("db", 0)
	ready := &runtime.PodSandboxStateValue{State: runtime.PodSandboxState_SANDBOX_READY}
	for name, c := range map[string]struct {
		filter *runtime.PodSandboxFilter
		want   int
	}{
		"none":             {nil, 2},
		"prefix":           {&runtime.PodSandboxFilter{Id: web[:10]}, 1},
		"labels":           {&runtime.PodSandboxFilter{LabelSelector: map[string]string{"tier": "front"}}, 2},
		"all":              {&runtime.PodSandboxFilter{Id: web, State: ready, LabelSelector: map[string]string{"app": "web", "tier": "front"}}, 1},
		"one label wrong":  {&runtime.PodSandboxFilter{LabelSelector: map[string]string{"app": "web", "tier": "back"}}, 0},
		"label is missing": {&runtime.PodSandboxFilter{LabelSelector: map[string]string{"other": ""}}, 0},
		"another's label":  {&runtime.PodSandboxFilter{Id: db, LabelSelector: map[string]string{"app": "web"}}, 0},
		"another state":    {&runtime.PodSandboxFilter{Id: web, State: &runtime.PodSandboxStateValue{State: 1}}, 0},
	} {
		r, err := k.ListPodSandbox(t.Context(), &runtime.ListPodSandboxRequest{Filter: c.filter})
		if err != nil || len(r.GetItems()) != c.want {
			t.Errorf("sandboxes by %s: %d, %v, want %d", name, len(r.GetItems()), err, c.want)
		}
	}
	runs := &runtime.ContainerStateValue{State: runtime.ContainerState_CONTAINER_RUNNING}
	for name, c := range map[string]struct {
		filter *runtime.ContainerFilter
		want   int
	}{
		"none":            {nil, 3},
		"id":              {&runtime.ContainerFilter{Id: running}, 1},
		"sandbox":         {&runtime.ContainerFilter{PodSandboxId: web[:10]}, 2},
		"state":           {&runtime.ContainerFilter{State: runs}, 2},
		"sandbox, state":  {&runtime.ContainerFilter{PodSandboxId: web, State: runs}, 1},
		"labels":          {&runtime.ContainerFilter{LabelSelector: map[string]string{"app": "web", "role": "main"}}, 2},
		"another sandbox": {&runtime.ContainerFilter{Id: running, PodSandboxId: db}, 0},
	} {
		r, err := k.ListContainers(t.Context(), &runtime.ListContainersRequest{Filter: c.filter})
		if err != nil || len(r.GetContainers()) != c.want {
			t.Errorf("containers by %s: %d, %v, want %d", name, len(r.GetContainers()), err, c.want)
		}
	}
}

func TestListItemsHaveEveryField(t *testing.T) {
	k := newKubelet(t)
	k.running("web", 0)
	sandboxes, err := k.ListPodSandbox(t.Context(), &runtime.ListPodSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	containers, err := k.ListContainers(t.Context(), &runtime.ListContainersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	checkMessage(t, "sandbox-item", sandboxes.GetItems()[0])
	checkMessage(t, "container-item", containers.GetContainers()[0])
}

func TestStreamingListsSendEachItemOnce(t *testing.T) {
	k := newKubelet(t)
	if got, err := drain(k.StreamPodSandboxes(t.Context(), &runtime.StreamPodSandboxesRequest{})); err != nil || len(got) != 0 {
		t.Errorf("an empty list: %d messages, %v", len(got), err)
	}
	sandbox := k.run("web")
	for i := range uint32(600) {
		k.create(sandbox, "c", i)
	}
	messages, err := drain(k.StreamContainers(t.Context(), &runtime.StreamContainersRequest{}))
	if err != nil || len(messages) < 3 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	seen := map[string]bool{}
	for _, m := range messages {
		if len(m.GetContainers()) == 0 {
			t.Error("a message without an item")
		}
		for _, c := range m.GetContainers() {
			if seen[c.GetId()] {
				t.Errorf("%s came twice", c.GetId())
			}
			seen[c.GetId()] = true
		}
	}
	if len(seen) != 600 {
		t.Errorf("%d items of 600", len(seen))
	}
}

func TestListThatDoesNotFitSaysWhatDoes(t *testing.T) {
	k := newKubelet(t)
	for i := range 20 {
		config := sandboxConfig("web")
		config.Metadata.Attempt = uint32(i)
		config.Annotations = map[string]string{"large": strings.Repeat("x", 1<<20)}
		if _, err := k.RunPodSandbox(t.Context(), &runtime.RunPodSandboxRequest{Config: config}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := k.ListPodSandbox(t.Context(), &runtime.ListPodSandboxRequest{})
	wantCode(t, "ListPodSandbox of 20 MiB", err, codes.ResourceExhausted)
	if err == nil || !strings.Contains(err.Error(), "use StreamPodSandboxes") {
		t.Errorf("got %v", err)
	}
	messages, err := drain(k.StreamPodSandboxes(t.Context(), &runtime.StreamPodSandboxesRequest{}))
	if err != nil || len(messages) != 20 {
		t.Errorf("%d messages, %v", len(messages), err)
	}
}

// What kubelet asks every second on a node with 100 pods of two containers.
func BenchmarkListContainers(b *testing.B) {
	k := newKubelet(b)
	for i := range uint32(100) {
		config := sandboxConfig("web")
		config.Metadata.Attempt = i
		sb, err := k.node.RunSandbox(b.Context(), config, "")
		if err != nil {
			b.Fatal(err)
		}
		for attempt := range uint32(2) {
			if _, err := k.node.CreateContainer(b.Context(), string(sb), containerConfig("app", attempt)); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		if r, err := k.ListContainers(b.Context(), &runtime.ListContainersRequest{}); err != nil || len(r.GetContainers()) != 200 {
			b.Fatal(err)
		}
	}
}
