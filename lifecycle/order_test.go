package lifecycle

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestListsAreNewestFirstHoweverTheyCame(t *testing.T) {
	x := newIndex()
	m := &Manager{index: x}
	at := time.Unix(1000, 0)
	made := map[int]pod.Container{}
	for _, n := range []int{5, 1, 4, 2, 2, 3, 6} { // records come in any order, and two may be of one moment
		c := pod.Container{ID: pod.NewID(), SandboxID: "s", State: pod.Exited, CreatedAt: at.Add(time.Duration(n))}
		x.addContainer(c)
		made[n] = c
	}
	creating := pod.Container{ID: pod.NewID(), SandboxID: "s", State: pod.Creating, CreatedAt: at.Add(99)}
	x.addContainer(creating)
	listed := func() (order []int) {
		for i, c := range m.Containers() {
			if p := m.ContainerList()[i]; p.ID != c.ID {
				t.Errorf("%d: %s and %s", i, p.ID, c.ID)
			}
			order = append(order, int(c.CreatedAt.Sub(at)))
		}
		return order
	}
	if got := listed(); !slices.Equal(got, []int{6, 5, 4, 3, 2, 2, 1}) {
		t.Errorf("listed %v", got)
	}
	x.dropContainer(made[4])
	x.dropContainer(made[4])
	x.dropContainer(made[2])
	x.dropContainer(creating)
	if got := listed(); !slices.Equal(got, []int{6, 5, 3, 2, 1}) || len(x.containerOrder.entries) != len(x.containers) {
		t.Errorf("listed %v of %d", got, len(x.containers))
	}
}

// A list of all containers, as kubelet asks for it each second, beside nothing else.
func BenchmarkContainerList(b *testing.B) {
	for _, n := range []int{250, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := &Manager{index: newIndex()}
			for range n {
				m.index.addContainer(pod.Container{ID: pod.NewID(), SandboxID: pod.NewID(), State: pod.Running, CreatedAt: time.Now()})
			}
			b.ReportAllocs()
			for b.Loop() {
				if len(m.ContainerList()) != n {
					b.Fatal("not all are listed")
				}
			}
		})
	}
}
