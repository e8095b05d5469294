package lifecycle

import (
	"context"
	"errors"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// A creation runs on the daemon's own time, where a panic would be the daemon's end.
func TestPanickingCreationFailsAloneAndCanBeTriedAgain(t *testing.T) {
	m := &Manager{index: newIndex()}
	m.ctx, m.cancel = context.WithCancel(t.Context())
	key, flights := pod.ContainerKey{Name: "c"}, m.index.containerFlights
	flights[key] = &flight{done: make(chan struct{})}
	_, err := fly(t.Context(), m, flights, key, "id", func(context.Context) error { panic("no such luck") })
	if !errors.Is(err, pod.ErrBug) {
		t.Errorf("a creation that panics: %v", err)
	}
	flights[key] = &flight{done: make(chan struct{})} // the first one is no longer in the way
	if id, err := fly(t.Context(), m, flights, key, "id", func(context.Context) error { return nil }); id != "id" || err != nil {
		t.Errorf("the next one: %q, %v", id, err)
	}
	m.Close()
}

func TestAnotherRequestForAContainerInTheMakingIsRefused(t *testing.T) {
	m := &Manager{index: newIndex()}
	sb := pod.Sandbox{ID: pod.NewID(), State: pod.Ready}
	m.index.addSandbox(sb)
	config := &runtime.ContainerConfig{Metadata: &runtime.ContainerMetadata{Name: "c"}, Command: []string{"one"}}
	other := &runtime.ContainerConfig{Metadata: &runtime.ContainerMetadata{Name: "c"}, Command: []string{"two"}}
	key := pod.Container{SandboxID: sb.ID, Config: pod.ContainerConfig{ContainerConfig: config}}.Key()
	m.index.containerFlights[key] = &flight{config: config, done: make(chan struct{})}
	if _, err := m.CreateContainer(t.Context(), string(sb.ID), other); !errors.Is(err, pod.ErrExists) {
		t.Errorf("another configuration: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := m.CreateContainer(ctx, string(sb.ID), config); !errors.Is(err, pod.ErrDeadline) {
		t.Errorf("the same one waits: %v", err)
	}
}
