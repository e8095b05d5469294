package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

func TestPodSeesWhatItsFieldsAskFor(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.Pod("asked")
	pod.Metadata.Attempt = 3
	pod.Hostname = "named.here"
	pod.Annotations = map[string]string{"note": "kept"}
	pod.DnsConfig = &runtime.DNSConfig{Servers: []string{"10.1.2.3"}, Searches: []string{"a.test", "b.test"}, Options: []string{"ndots:5"}}
	pod.Linux.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "77", "kernel.shm_rmid_forced": "1"}
	pod.Linux.Overhead = &runtime.LinuxContainerResources{MemoryLimitInBytes: 1 << 20}
	pod.Linux.Resources = &runtime.LinuxContainerResources{MemoryLimitInBytes: 300 << 20}
	pod.PortMappings = []*runtime.PortMapping{{Protocol: runtime.Protocol_UDP, ContainerPort: 5353, HostPort: freePort(t), HostIp: "127.0.0.1"}}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c",
		"hostname; cat /etc/resolv.conf /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced; exec sleep 1000")
	c.Metadata.Attempt = 2
	c.Image.UserSpecifiedImage = "example.org/asked:1"
	c.LogPath = "c/2.log" // below a directory that only kubelet would have made
	c.Annotations = map[string]string{"container-note": "kept"}
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	n.stdout(pod, c, "named.here\nsearch a.test b.test\nnameserver 10.1.2.3\noptions ndots:5\n77\n1\n")
	if _, err := os.Stat(filepath.Join(pod.LogDirectory, c.LogPath)); err != nil {
		t.Error(err)
	}
	rules := strings.Split(string(harness.Must(exec.Command("iptables-save", "-t", "nat").Output())(t)), "\n")
	if want := fmt.Sprint("--dport ", pod.PortMappings[0].HostPort); !slices.ContainsFunc(rules, func(r string) bool {
		return strings.Contains(r, want+" ") && strings.Contains(r, "-d 127.0.0.1/32 ") && strings.Contains(r, "-p udp ") && strings.Contains(r, ":5353")
	}) {
		t.Errorf("no rule maps UDP port 5353 to 127.0.0.1 %s:\n%s", want, strings.Join(rules, "\n"))
	}
	status := harness.Must(n.cri.PodSandboxStatus(n.ctx, &runtime.PodSandboxStatusRequest{PodSandboxId: sandbox, Verbose: true}))(t)
	if m := status.Status.Metadata; m.GetAttempt() != 3 || m.GetName() != "asked" || m.GetNamespace() != "test" || m.GetUid() != pod.Metadata.Uid {
		t.Errorf("metadata: %v", m)
	}
	if s := status.Status; s.Annotations["note"] != "kept" || s.Labels["io.kubernetes.pod.name"] != "asked" {
		t.Errorf("annotations %v, labels %v", s.Annotations, s.Labels)
	}
	if s := harness.Must(n.cri.Status(n.ctx, id))(t); s.Metadata.Attempt != 2 || s.Image.Image != "example.org/asked:1" || s.Annotations["container-note"] != "kept" || s.Labels["io.kubernetes.container.name"] != "c" {
		t.Errorf("container: %v, %v, %v, %v", s.Metadata, s.Image, s.Annotations, s.Labels)
	}
	var info struct {
		CgroupParent string `json:"cgroupParent"`
		Overhead     struct {
			Memory int64 `json:"memory_limit_in_bytes"`
		} `json:"overhead"`
		Resources struct {
			Memory int64 `json:"memory_limit_in_bytes"`
		} `json:"resources"`
	}
	n.must(json.Unmarshal([]byte(status.Info["info"]), &info))
	if info.CgroupParent != pod.Linux.CgroupParent || info.Overhead.Memory != 1<<20 || info.Resources.Memory != 300<<20 {
		t.Errorf("verbose status: %+v", info)
	}
	if inside := harness.Must(os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", initPID(t, n, id))))(t); !strings.Contains(string(inside), filepath.Base(pod.Linux.CgroupParent)) {
		t.Errorf("PID 1 is not below %s:\n%s", pod.Linux.CgroupParent, inside)
	}
	_, err := n.cri.UpdatePodSandboxResources(n.ctx, &runtime.UpdatePodSandboxResourcesRequest{
		PodSandboxId: sandbox, Overhead: &runtime.LinuxContainerResources{MemoryLimitInBytes: 20 << 20}, Resources: &runtime.LinuxContainerResources{MemoryLimitInBytes: 400 << 20},
	})
	n.must(err)
	harness.Must(n.Restart(n.ctx))(t) // it is on record
	status = harness.Must(n.cri.PodSandboxStatus(n.ctx, &runtime.PodSandboxStatusRequest{PodSandboxId: sandbox, Verbose: true}))(t)
	n.must(json.Unmarshal([]byte(status.Info["info"]), &info))
	if info.Overhead.Memory != 20<<20 || info.Resources.Memory != 400<<20 {
		t.Errorf("after an update and a restart: %+v", info)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// Clients that make no cgroups may name one for several pods. It is there until the last
// of them is gone, and the first one's removal neither waits for the others nor harms them.
func TestPodsOfOneCgroupHaveItToTheEnd(t *testing.T) {
	n := start(t, harness.Options{})
	var sandboxes []string
	var last string
	shared := ""
	for i := range 3 {
		pod := n.HostPod(fmt.Sprint("shares", i))
		if shared == "" {
			shared = pod.Linux.CgroupParent
		}
		pod.Linux.CgroupParent = shared
		sandboxes = append(sandboxes, harness.Must(n.cri.RunPod(n.ctx, pod))(t))
		last, _ = n.run(sandboxes[i], pod, "c", "/bin/sleep", "1000")
	}
	n.must(n.cri.RemovePod(n.ctx, sandboxes[0])) // the one that made it
	if out := harness.Must(n.cri.Exec(n.ctx, last, 60, "echo", "here"))(t); string(out.Stdout) != "here\n" {
		t.Errorf("the last pod's container: %q, %s", out.Stdout, out.Stderr)
	}
	errs := make(chan error)
	for _, sandbox := range sandboxes[1:] { // at one time
		go func() { errs <- n.cri.RemovePod(n.ctx, sandbox) }()
	}
	n.must(errors.Join(<-errs, <-errs))
	n.nothingLeft()
}

func TestListsKeepToEveryPartOfTheirFilters(t *testing.T) {
	n := start(t, harness.Options{})
	var pods, containers [2]string
	for i := range pods {
		pod := n.HostPod(fmt.Sprint("listed", i))
		pod.Labels["number"] = fmt.Sprint(i)
		pods[i] = harness.Must(n.cri.RunPod(n.ctx, pod))(t)
		c := harness.Container(pod, "c", n.image, "sleep", "1000")
		c.Labels["number"] = fmt.Sprint(i)
		containers[i] = harness.Must(n.cri.Run(n.ctx, pods[i], pod, c))(t)
	}
	label := map[string]string{"number": "1"}
	running := &runtime.ContainerStateValue{State: runtime.ContainerState_CONTAINER_RUNNING}
	exited := &runtime.ContainerStateValue{State: runtime.ContainerState_CONTAINER_EXITED}
	ready := &runtime.PodSandboxStateValue{State: runtime.PodSandboxState_SANDBOX_READY}
	notReady := &runtime.PodSandboxStateValue{State: runtime.PodSandboxState_SANDBOX_NOTREADY}
	for name, tc := range map[string]struct {
		pods       *runtime.PodSandboxFilter
		containers *runtime.ContainerFilter
		want       int // how many of the two; 1 means number 1
	}{
		"none":        {nil, nil, 2},
		"id":          {&runtime.PodSandboxFilter{Id: pods[1][:20]}, &runtime.ContainerFilter{Id: containers[1][:20]}, 1},
		"label":       {&runtime.PodSandboxFilter{LabelSelector: label}, &runtime.ContainerFilter{LabelSelector: label}, 1},
		"state":       {&runtime.PodSandboxFilter{State: ready}, &runtime.ContainerFilter{State: running}, 2},
		"other":       {&runtime.PodSandboxFilter{State: notReady}, &runtime.ContainerFilter{State: exited}, 0},
		"sandbox":     {&runtime.PodSandboxFilter{Id: pods[1]}, &runtime.ContainerFilter{PodSandboxId: pods[1]}, 1},
		"all at once": {&runtime.PodSandboxFilter{Id: pods[0], LabelSelector: label}, &runtime.ContainerFilter{PodSandboxId: pods[0], LabelSelector: label}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			listed := map[string][]string{}
			for _, p := range harness.Must(n.cri.ListPodSandbox(n.ctx, &runtime.ListPodSandboxRequest{Filter: tc.pods}))(t).Items {
				listed["pods"] = append(listed["pods"], p.Id)
			}
			for _, r := range all(t, harness.Must(n.cri.StreamPodSandboxes(n.ctx, &runtime.StreamPodSandboxesRequest{Filter: tc.pods}))(t)) {
				for _, p := range r.PodSandboxes {
					listed["streamed pods"] = append(listed["streamed pods"], p.Id)
				}
			}
			for _, c := range harness.Must(n.cri.ListContainers(n.ctx, &runtime.ListContainersRequest{Filter: tc.containers}))(t).Containers {
				listed["containers"] = append(listed["containers"], c.PodSandboxId)
			}
			for _, r := range all(t, harness.Must(n.cri.StreamContainers(n.ctx, &runtime.StreamContainersRequest{Filter: tc.containers}))(t)) {
				for _, c := range r.Containers {
					listed["streamed containers"] = append(listed["streamed containers"], c.PodSandboxId)
				}
			}
			what := []string{"pods", "streamed pods", "containers", "streamed containers"}
			if tc.containers.GetState() == nil {
				f := &runtime.ContainerStatsFilter{Id: tc.containers.GetId(), PodSandboxId: tc.containers.GetPodSandboxId(), LabelSelector: tc.containers.GetLabelSelector()}
				for _, s := range harness.Must(n.cri.ListContainerStats(n.ctx, &runtime.ListContainerStatsRequest{Filter: f}))(t).Stats {
					listed["stats"] = append(listed["stats"], owner(containers, pods, s.Attributes.Id))
				}
				for _, r := range all(t, harness.Must(n.cri.StreamContainerStats(n.ctx, &runtime.StreamContainerStatsRequest{Filter: f}))(t)) {
					for _, s := range r.ContainerStats {
						listed["streamed stats"] = append(listed["streamed stats"], owner(containers, pods, s.Attributes.Id))
					}
				}
				what = append(what, "stats", "streamed stats")
			}
			if tc.pods.GetState() == nil {
				f := &runtime.PodSandboxStatsFilter{Id: tc.pods.GetId(), LabelSelector: tc.pods.GetLabelSelector()}
				for _, s := range harness.Must(n.cri.ListPodSandboxStats(n.ctx, &runtime.ListPodSandboxStatsRequest{Filter: f}))(t).Stats {
					listed["pod stats"] = append(listed["pod stats"], s.Attributes.Id)
				}
				for _, r := range all(t, harness.Must(n.cri.StreamPodSandboxStats(n.ctx, &runtime.StreamPodSandboxStatsRequest{Filter: f}))(t)) {
					for _, s := range r.PodSandboxStats {
						listed["streamed pod stats"] = append(listed["streamed pod stats"], s.Attributes.Id)
					}
				}
				what = append(what, "pod stats", "streamed pod stats")
			}
			for _, kind := range what {
				if got := listed[kind]; len(got) != tc.want || tc.want == 1 && got[0] != pods[1] {
					t.Errorf("%s: %d are listed, want %d: %v", kind, len(got), tc.want, got)
				}
			}
		})
	}
	n.must(n.cri.RemoveAll(n.ctx))
	n.nothingLeft()
}

// owner is the pod of one of the test's containers.
func owner(containers, pods [2]string, id string) string {
	for i := range containers {
		if containers[i] == id {
			return pods[i]
		}
	}
	return id
}

// all receives a stream to its end.
func all[T any](t testing.TB, stream interface{ Recv() (*T, error) }) []*T {
	t.Helper()
	var got []*T
	for {
		one, err := stream.Recv()
		if err != nil {
			if err.Error() != "EOF" {
				t.Error(err)
			}
			return got
		}
		got = append(got, one)
	}
}
