package lifecycle

import (
	"testing"
	"testing/synctest"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Whoever records a container's end holds its lock until plugins have answered.
func TestAPodsContainersHaveEndedForPluginsWhenTheyHaveForThePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Manager{index: newIndex(), plugins: struct{ Plugins }{}}
		sb := pod.Sandbox{ID: pod.NewID()}
		e := m.index.addContainer(pod.Container{ID: pod.NewID(), SandboxID: sb.ID, State: pod.Exited})
		if err := e.lock.acquire(t.Context(), "finish"); err != nil {
			t.Fatal(err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- m.stopContainers(t.Context(), sb.ID) }()
		synctest.Wait()
		if len(stopped) != 0 {
			t.Error("the containers are stopped before plugins have answered")
		}
		e.lock.release()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}
