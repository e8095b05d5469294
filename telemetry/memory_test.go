package telemetry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
	"github.com/vitrine-runtime/vitrine/telemetry/history"
)

func eventOf(kind pod.EventKind, exit *pod.Exit) pod.Event {
	return pod.Event{Time: time.Now(), Kind: kind,
		Sandbox: pod.Sandbox{ID: "aaaaaaaa", Config: pod.SandboxConfig{PodSandboxConfig: &runtime.PodSandboxConfig{
			Metadata: &runtime.PodSandboxMetadata{Namespace: "shop", Name: "web", Uid: "uid-1"}}}},
		Container: &pod.Container{ID: "bbbbbbbb", Exit: exit,
			Config: pod.ContainerConfig{ContainerConfig: &runtime.ContainerConfig{Metadata: &runtime.ContainerMetadata{Name: "app"}}}}}
}

// Two lives of the daemon share one history: what the first one observed, and how it
// ended, is there in the second.
func TestHistoryOutlivesTheDaemon(t *testing.T) {
	dir := t.TempDir()
	first, err := telemetry.Setup(t.Context(), telemetry.Config{HistoryDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	first.ProvideFigures(func(_ context.Context, c pod.Container) history.Figures {
		return history.Figures{MemoryPeak: 4096, Output: "last words of " + string(c.ID)}
	})
	ctx, span := telemetry.Start(first.Context(t.Context()), "lifecycle.run_sandbox",
		telemetry.KeyNamespace.String("shop"), telemetry.KeyPodName.String("web"))
	_, inner := telemetry.Start(ctx, "network.attach")
	failed := errors.New("no address")
	inner.End(&failed)
	span.End(&failed)
	first.Observe(eventOf(pod.ContainerExited, &pod.Exit{Code: 1, Source: "monitor"}))
	if err := first.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}

	second, err := telemetry.Setup(t.Context(), telemetry.Config{HistoryDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Shutdown(context.Background())
	entries, err := second.History(t.Context(), "shop/web")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[history.Kind]int{}
	ended := 0
	for _, e := range entries {
		kinds[e.Kind]++
		switch {
		case e.Kind == history.KindDaemon && e.Daemon.Ended:
			ended++
		case e.Kind == history.KindFigures && (e.Figures.MemoryPeak != 4096 || e.Figures.Output != "last words of bbbbbbbb"):
			t.Errorf("figures %+v", e.Figures)
		case e.Kind == history.KindEvent && e.Event.Exit.Code != 1:
			t.Errorf("event %+v", e.Event)
		}
	}
	if kinds[history.KindDaemon] != 3 || ended != 1 || kinds[history.KindBegun] != 1 || kinds[history.KindEnded] != 1 || kinds[history.KindEvent] != 1 || kinds[history.KindFigures] != 1 {
		t.Errorf("%v, %d ended", kinds, ended)
	}
}

func TestWithoutARoomForItThereIsNoHistoryAndTheDaemonStarts(t *testing.T) {
	tel, err := telemetry.Setup(t.Context(), telemetry.Config{HistoryDir: "/proc/none/history"})
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Shutdown(context.Background())
	tel.Observe(eventOf(pod.ContainerExited, nil))
	if entries, err := tel.History(t.Context(), ""); err != nil || entries != nil {
		t.Errorf("%v, %v", entries, err)
	}
}
