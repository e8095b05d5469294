package torture

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Every step of the daemon that has a span is a point at which it can be made to die.
func TestDeathAtEveryStepLeavesNothing(t *testing.T) {
	names := steps(t)
	if len(names) < 10 {
		t.Fatalf("a pod's life has only the steps %v", names)
	}
	if n := len(names); *points < n {
		chosen := make([]string, 0, *points)
		for i := range *points {
			chosen = append(chosen, names[i*n / *points])
		}
		names = chosen
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) { dieAt(t, name) })
	}
}

// steps returns the names of the daemon's spans in the life of a pod and its image.
func steps(t *testing.T) []string {
	d, image := start(t)
	cri := d.Client(t)
	ctx, id := harness.Traced(harness.Context(t, time.Minute))
	pod := d.Pod("watched")
	sandbox := harness.Must(cri.RunPod(ctx, pod))(t)
	c := harness.Must(cri.Run(ctx, sandbox, pod, harness.Container(pod, "c", image, "/bin/payload", "wait")))(t)
	for _, err := range []error{cri.Stop(ctx, c, 5), cri.Remove(ctx, c), cri.RemovePod(ctx, sandbox)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	trace := harness.Must(d.Trace(ctx, id))(t)
	var names []string
	for _, s := range trace.Spans {
		if s.Kind == "" && s.Service == "vitrined" && !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}

// dieAt lets the daemon die when the step begins for the first time in a pod's life,
// brings it back, and goes on as kubelet does.
func dieAt(t *testing.T, step string) {
	d := harness.Run(t, harness.Options{RegistriesConf: fixture.RegistriesConf(hub.Addr), LogLevel: "info"})
	ctx := harness.Context(t, 2*time.Minute)
	cri := d.Client(t)
	image := harness.Must(cri.Pull(ctx, hub.Image))(t)
	clean := harness.Must(d.Census())(t)
	d.Options.Env = []string{"VITRINE_FAULTS=" + step + "=kill(1)"}
	if _, err := d.Restart(ctx); err != nil {
		t.Skipf("the step is one of starting the daemon: %v", err)
	}
	d.Options.Env = nil

	watching, stop := context.WithCancel(ctx)
	revived := make(chan int)
	go func() { revived <- revive(watching, t, d) }()
	err := kubelet{d, cri, image}.life(d.Pod("mortal"))
	stop()
	deaths := <-revived
	if err != nil {
		t.Error(err)
		cri.RemoveAll(ctx)
	}
	if deaths == 0 {
		t.Error("the daemon did not die: the step was not reached")
	}
	if list := harness.Must(cri.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{}))(t); len(list.Items) != 0 {
		t.Errorf("%d sandboxes are listed", len(list.Items))
	}
	harness.NothingLeft(t, d, clean)
}

// revive starts the daemon again whenever it is dead, and returns how often.
func revive(ctx context.Context, t *testing.T, d *harness.Daemon) (deaths int) {
	for {
		select {
		case <-ctx.Done():
			return deaths
		case <-d.Died():
			if ctx.Err() != nil {
				return deaths
			}
			deaths++
			if err := d.Start(context.WithoutCancel(ctx)); err != nil {
				t.Error(err)
				return deaths
			}
		}
	}
}
