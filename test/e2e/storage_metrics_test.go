package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// family is a series of /metrics; 0 when there is none.
func (n *node) family(t *testing.T, name string) float64 {
	t.Helper()
	for line := range strings.Lines(harness.Must(n.Metrics())(t)) {
		if rest, found := strings.CutPrefix(line, name+" "); found {
			return harness.Must(strconv.ParseFloat(strings.Fields(rest)[0], 64))(t)
		}
	}
	return 0
}

// counts waits until a series has grown: spans are counted a moment after their call.
func (n *node) counts(t *testing.T, name string, least float64) {
	t.Helper()
	got := 0.0
	for deadline := time.Now().Add(harness.Scale(20 * time.Second)); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = n.family(t, name); got >= least {
			return
		}
	}
	t.Errorf("%s is %g, want %g at least", name, got, least)
}

func TestExecsAndDiskSpaceGivenBackAreMeasured(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.Pod("writer")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, _ := n.run(sandbox, pod, "c", "sleep", "1000")
	n.run(sandbox, pod, "talker", "/bin/sh", "-c", "dd if=/dev/zero bs=1k count=300; sleep 1000") // into its log
	const written = 4 << 20
	if r := harness.Must(n.cri.Exec(n.ctx, id, 60, "/bin/dd", "if=/dev/zero", "of=/file", "bs=1M", fmt.Sprint("count=", written>>20)))(t); r.ExitCode != 0 {
		t.Fatalf("%s", r.Stderr)
	}
	for _, phase := range []string{"process", "execute", "run", "drain"} {
		n.counts(t, `vitrine_exec_phase_duration_seconds_count{outcome="ok",phase="`+phase+`"}`, 1)
	}
	for deadline := time.Now().Add(harness.Scale(20 * time.Second)); ; time.Sleep(100 * time.Millisecond) { // measured at intervals
		stats := harness.Must(n.cri.ContainerStats(n.ctx, &runtime.ContainerStatsRequest{ContainerId: id}))(t).Stats
		if stats.GetWritableLayer().GetUsedBytes().GetValue() >= written {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the writable layer has %d bytes", stats.GetWritableLayer().GetUsedBytes().GetValue())
		}
	}
	n.counts(t, `vitrine_storage_bytes{kind="log"}`, 300<<10)
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.counts(t, `vitrine_gc_removed_bytes_total{kind="rw"}`, written)

	image := harness.Must(fixture.BuildImage(n.ctx, hub.Addr, "test/removed:1", fixture.Image{Layers: []fixture.Layer{{Files: []fixture.File{{Name: "blob", Body: make([]byte, 1<<20)}}}}}))(t)
	harness.Must(n.cri.Pull(n.ctx, image.Ref))(t)
	if _, err := n.cri.RemoveImage(n.ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: image.Ref}}); err != nil {
		t.Fatal(err)
	}
	n.counts(t, `vitrine_gc_removed_bytes_total{kind="layer"}`, 1<<20)
	n.nothingLeft()
}
