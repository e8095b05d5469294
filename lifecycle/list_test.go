package lifecycle

import (
	"testing"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestWhatIsStillBeingMadeIsNotListed(t *testing.T) {
	m := &Manager{index: newIndex()}
	for _, s := range []pod.State{pod.Creating, pod.Ready, pod.NotReady} {
		m.index.addSandbox(pod.Sandbox{ID: pod.NewID(), State: s})
	}
	for _, s := range []pod.State{pod.Creating, pod.Created, pod.Running, pod.Exited} {
		m.index.addContainer(pod.Container{ID: pod.NewID(), State: s})
	}
	if sandboxes, containers := len(m.SandboxList()), len(m.ContainerList()); sandboxes != 2 || containers != 3 {
		t.Errorf("%d sandboxes and %d containers are listed, want 2 and 3", sandboxes, containers)
	}
}
