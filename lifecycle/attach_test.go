package lifecycle

import (
	"fmt"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/pod"
)

func TestWhoMadeAContainerIsRememberedForItsKindAlone(t *testing.T) {
	var u unmoved
	plain := kindOf(pod.Container{Config: pod.ContainerConfig{ContainerConfig: &runtime.ContainerConfig{}}})
	terminal := kindOf(pod.Container{Config: pod.ContainerConfig{ContainerConfig: &runtime.ContainerConfig{Tty: true}}})
	expect := func(when string, ofPlain, ofTerminal bool) {
		t.Helper()
		if u.has(plain) != ofPlain || u.has(terminal) != ofTerminal {
			t.Errorf("%s: %v for a plain container, %v for one with a terminal", when, u.has(plain), u.has(terminal))
		}
	}
	expect("at first", false, false)
	u.note(plain, launch.WayEnter)
	u.note(terminal, "libcontainer")
	expect("after one of each", true, false)
	u.note(plain, "libcontainer") // its filter was not known, for instance
	expect("after one that was declined", false, false)
	u.note(plain, launch.WayEnter)
	expect("after the next", true, false)
}

func TestRememberedKindsAreBounded(t *testing.T) {
	var u unmoved
	for i := range 3 * maxKinds {
		k := kind{profile: fmt.Sprint(i)}
		if u.note(k, launch.WayEnter); !u.has(k) || len(u.kinds) > maxKinds {
			t.Fatalf("after %d: %v, %d kept", i, u.has(k), len(u.kinds))
		}
	}
}
