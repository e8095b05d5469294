package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// limitsInForce prints the limits as the container's own cgroup has them, and the
// oom_score_adj of PID 1; v1 and v2 have different words for them.
const limitsInForce = `cd /sys/fs/cgroup
if test -e memory.max; then
  echo cpu $(cat cpu.max) weight $(cat cpu.weight)
  echo memory $(cat memory.max) swap $(cat memory.swap.max)
  echo cpuset $(cat cpuset.cpus.effective)
else
  echo cpu $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us) weight $(cat cpu/cpu.shares)
  echo memory $(cat memory/memory.limit_in_bytes) swap $(cat memory/memory.memsw.limit_in_bytes)
  echo cpuset $(cat cpuset/cpuset.cpus)
fi
echo score $(cat /proc/1/oom_score_adj) exec $(cat /proc/self/oom_score_adj)`

func TestUpdateIsInForceInEveryControllerOrInNone(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("resized")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	// 40 MiB of shared memory cannot be reclaimed without swap.
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c", "dd if=/dev/zero of=/dev/shm/held bs=1M count=40 2>/dev/null; echo held; exec sleep 1000")
	c.Linux.Resources = &runtime.LinuxContainerResources{CpuShares: 256, MemoryLimitInBytes: 256 << 20, OomScoreAdj: 100}
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	waitLog(t, pod, c, "held")
	update := func(res *runtime.LinuxContainerResources) error {
		_, err := n.cri.UpdateContainerResources(n.ctx, &runtime.UpdateContainerResourcesRequest{ContainerId: id, Linux: res, Annotations: map[string]string{"why": "test"}})
		return err
	}
	inForce := func() string {
		return string(harness.Must(n.cri.Exec(n.ctx, id, 60, "/bin/sh", "-c", limitsInForce))(t).Stdout)
	}
	onRecord := func() string {
		r := harness.Must(n.cri.Status(n.ctx, id))(t).Resources.GetLinux()
		return fmt.Sprintln(r.CpuQuota, r.CpuPeriod, r.CpuShares, r.MemoryLimitInBytes, r.MemorySwapLimitInBytes, r.CpusetCpus, r.OomScoreAdj, r.HugepageLimits)
	}

	before := inForce()
	n.must(update(&runtime.LinuxContainerResources{
		CpuPeriod: 50000, CpuQuota: 25000, CpuShares: 512, MemoryLimitInBytes: 128 << 20, MemorySwapLimitInBytes: 160 << 20, CpusetCpus: "0", OomScoreAdj: 200,
	}))
	resized := inForce()
	v2 := strings.Contains(before, "max")
	want := []string{"cpu 25000 50000", "memory 134217728", "cpuset 0", "score 200 exec 200"}
	if v2 {
		want = append(want, "swap 33554432")
	} else {
		want = append(want, "swap 167772160", "weight 512")
	}
	for _, one := range want {
		if !strings.Contains(resized, one) {
			t.Errorf("no %q after the update:\n%s", one, resized)
		}
	}
	if resized == before || !strings.HasPrefix(onRecord(), "25000 50000 512 134217728 167772160 0 200") {
		t.Errorf("on record: %s", onRecord())
	}

	record := onRecord()
	for name, tc := range map[string]struct {
		change *runtime.LinuxContainerResources
		code   codes.Code
		cause  string
	}{
		"memory in use": {&runtime.LinuxContainerResources{CpuQuota: 30000, CpuShares: 1024, OomScoreAdj: 300, MemoryLimitInBytes: 16 << 20, MemorySwapLimitInBytes: 16 << 20},
			codes.FailedPrecondition, "in use"},
		"a CPU that is not there":    {&runtime.LinuxContainerResources{OomScoreAdj: 300, CpuShares: 1024, CpusetCpus: "0-4095"}, codes.InvalidArgument, "cpuset"},
		"a score out of range":       {&runtime.LinuxContainerResources{OomScoreAdj: 3000, CpuShares: 1024}, codes.InvalidArgument, "3000"},
		"a quota below the kernel's": {&runtime.LinuxContainerResources{OomScoreAdj: 300, CpuQuota: 10}, codes.InvalidArgument, "cpu_quota"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, update(tc.change), tc.code, tc.cause)
			if now := inForce(); now != resized {
				t.Errorf("a refused update changed the limits to\n%swant\n%s", now, resized)
			}
			if now := onRecord(); now != record {
				t.Errorf("a refused update changed the record to %s, want %s", now, record)
			}
		})
	}
	harness.Must(n.Restart(n.ctx))(t)
	if now := onRecord(); now != record {
		t.Errorf("after a restart: %s, want %s", now, record)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// The cgroup of a pod is kubelet's; one that the runtime made, because nobody else
// had, is the runtime's to change.
func TestPodsResourcesChangeTheCgroupThatTheRuntimeMade(t *testing.T) {
	n := start(t, harness.Options{CgroupDriver: driver()})
	limit := func(pod *runtime.PodSandboxConfig) string {
		for _, path := range []string{"/sys/fs/cgroup/memory" + pod.Linux.CgroupParent + "/memory.limit_in_bytes", "/sys/fs/cgroup" + pod.Linux.CgroupParent + "/memory.max"} {
			if raw, err := os.ReadFile(path); err == nil {
				return strings.TrimSpace(string(raw))
			}
		}
		t.Fatalf("no memory limit of %s", pod.Linux.CgroupParent)
		return ""
	}
	pod := n.HostPod("owned")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	update := func(memory int64) error {
		_, err := n.cri.UpdatePodSandboxResources(n.ctx, &runtime.UpdatePodSandboxResourcesRequest{
			PodSandboxId: sandbox, Resources: &runtime.LinuxContainerResources{MemoryLimitInBytes: memory},
		})
		return err
	}
	n.must(update(512 << 20))
	if got := limit(pod); got != fmt.Sprint(512<<20) {
		t.Errorf("the pod's limit is %s", got)
	}
	refused(t, update(1<<20), codes.InvalidArgument, "1048576")
	if got := limit(pod); got != fmt.Sprint(512<<20) {
		t.Errorf("after a refused update the pod's limit is %s", got)
	}
	_, err := n.cri.UpdatePodSandboxResources(n.ctx, &runtime.UpdatePodSandboxResourcesRequest{PodSandboxId: absentID})
	refused(t, err, codes.NotFound, absentID[:13])
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
