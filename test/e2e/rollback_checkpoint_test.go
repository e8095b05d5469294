package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// steps are the names of the spans that call made in the daemon, its own left out.
func (n *node) steps(call func(context.Context) error) (names []string) {
	n.Helper()
	ctx, id := harness.Traced(n.ctx)
	n.must(call(ctx))
	own := append([]string{"lifecycle.checkpoint_pod", "lifecycle.restore_pod"}, noSteps...)
	for _, s := range harness.Must(n.Trace(n.ctx, id))(n).Spans {
		if s.Kind == "" && s.Service == "vitrined" && !slices.Contains(own, s.Name) && !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	return names
}

// wantFault checks the error of a call in which a step was made to fail.
func wantFault(t *testing.T, err error) {
	t.Helper()
	text := status.Convert(err).Message()
	if err == nil || !strings.Contains(text, "a fault was injected") || !strings.Contains(text, "step ") {
		t.Fatalf("the error of the step: %q", text)
	}
}

// A step of CheckpointPod or RestorePod that fails is named by the error and undone, and
// the same call succeeds afterwards.
func TestFaultAtEveryStepOfCheckpointAndRestoreIsNamedUndoneAndRetried(t *testing.T) {
	n := withCriu(t)
	pod := n.Pod("faults")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, c := n.counter(sandbox, pod, "counter", 1)
	checkpoint := func(ctx context.Context, dir string) error {
		_, err := n.cri.CheckpointPod(ctx, &runtime.CheckpointPodRequest{PodSandboxId: sandbox, OutputPath: dir, ContainerIds: []string{id}})
		return err
	}
	with := func(fault string) {
		t.Helper()
		n.Options.Env = []string{"VITRINE_FAULTS=" + fault}
		harness.Must(n.Restart(n.ctx))(t)
	}
	kept := t.TempDir()
	names := n.steps(func(ctx context.Context) error { return checkpoint(ctx, kept) })
	if len(names) < 8 {
		t.Fatalf("only the steps %v", names)
	}
	for _, name := range names {
		t.Run("CheckpointPod/"+name, func(t *testing.T) {
			with(name + "=fail(1)")
			dir := t.TempDir()
			wantFault(t, checkpoint(n.ctx, dir))
			if left := harness.Must(os.ReadDir(dir))(t); len(left) != 0 {
				t.Errorf("left in the directory: %v", left)
			}
			if left, err := filepath.Glob(filepath.Join(n.Data(), "storage/rootfs/*/checkpoint")); err != nil || len(left) != 0 {
				t.Errorf("left: %v, %v", left, err)
			}
			_, last := n.counted(pod, c, 0)
			n.counted(pod, c, last+2) // it is not paused
			n.must(checkpoint(n.ctx, dir))
		})
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()

	restored := ""
	restore := func(ctx context.Context, pod *runtime.PodSandboxConfig) error {
		answer, err := n.cri.RestorePod(ctx, &runtime.RestorePodRequest{CheckpointPath: kept, Config: pod, ContainerConfigs: []*runtime.ContainerConfig{c}})
		restored = answer.GetPodSandboxId()
		return err
	}
	names = n.steps(func(ctx context.Context) error { return restore(ctx, n.Pod("discovered")) })
	n.must(n.cri.RemovePod(n.ctx, restored))
	if len(names) < 15 || !slices.Contains(names, "lifecycle.verify") {
		t.Fatalf("only the steps %v", names)
	}
	for i, name := range names {
		t.Run("RestorePod/"+name, func(t *testing.T) {
			with(name + "=fail(1)")
			again := n.Pod(fmt.Sprint("again-", i))
			wantFault(t, restore(n.ctx, again))
			n.nothingLeft()
			n.must(restore(n.ctx, again))
			n.must(n.cri.RemovePod(n.ctx, restored))
		})
	}
	n.nothingLeft()
	n.Options.Env = nil
}
