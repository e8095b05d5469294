package lifecycle

import (
	"errors"
	"strings"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/oom"
	"github.com/vitrine-runtime/vitrine/pod"
)

func TestAKillWhileAContainerIsMadeIsFoundThoughItsCgroupIsGone(t *testing.T) {
	m, b := observed(t)
	limited := pod.Container{ID: pod.NewID(), Cgroup: "/gone", // the pod's is the root, which every machine has
		Resources: &pod.Resources{LinuxContainerResources: &runtime.LinuxContainerResources{MemoryLimitInBytes: 12 << 20}}}
	around := m.podCgroupID(limited)
	said := errors.New("runtime: no such file or directory")

	w := m.watchMaking(t.Context(), limited)
	if !b.tracked[around] {
		t.Fatal("the pod is not watched")
	}
	if err := m.tooSmall(t.Context(), limited, w, said); err != said {
		t.Errorf("without a kill: %v", err)
	}
	r := killOf(around, 100, sinceBoot(), 1)
	r.OOM.Level, r.OOM.Limit = ebpf.Below, 12<<20
	b.last[around] = oom.Last{OOM: &r, OOMKills: 1}
	if !w.killed(t.Context(), 100) || w.killed(t.Context(), 101) {
		t.Error("whom the kill was of is not known")
	}
	if err := m.tooSmall(t.Context(), limited, w, said); !errors.Is(err, pod.ErrInvalid) || !errors.Is(err, said) || !strings.Contains(err.Error(), "12Mi is too small to start a container") {
		t.Errorf("with one: %v", err)
	}
	second := m.watchMaking(t.Context(), limited) // of another pod in the same cgroup
	if err := m.tooSmall(t.Context(), limited, w, said); err != said {
		t.Errorf("with one that may be the other's: %v", err)
	}
	second.end(t.Context())
	if !b.tracked[around] {
		t.Error("not watched to the end of the first")
	}
	if err := m.tooSmall(t.Context(), limited, w, said); err != said {
		t.Errorf("with one that may have been the other's: %v", err)
	}
	w.end(t.Context())
	w.end(t.Context())
	if w.killed(t.Context(), 100) {
		t.Error("a kill is seen after the end")
	}
	if len(b.tracked) != 0 {
		t.Errorf("still watched: %v", b.tracked)
	}

	// One whose cgroup was made before needs no other's.
	m.watched.set(7, true)
	limited.Evidence.Cgroup = 7
	if w := m.watchMaking(t.Context(), limited); w != nil || len(b.tracked) != 0 {
		t.Errorf("%+v, tracked: %v", w, b.tracked)
	}
	(*making)(nil).end(t.Context())
}
