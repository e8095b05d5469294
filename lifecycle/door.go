package lifecycle

import (
	"github.com/vitrine-runtime/vitrine/pod"
)

// The door. Every change of a sandbox or a container goes through putSandbox or
// putContainer: old value in, new value out, move checked, record on disk, then
// visible, then published. Nothing else stores a value.

// putSandbox applies change to a copy of the sandbox and moves it to state to;
// to equal to the present state amends the record without a move or an event.
func (m *Manager) putSandbox(e *sandboxEntry, to pod.State, change func(*pod.Sandbox)) (pod.Sandbox, error) {
	e.door.Lock()
	defer e.door.Unlock()
	old := *e.value.Load()
	if to != old.State {
		if err := pod.CheckSandboxMove(old.State, to); err != nil {
			return old, err
		}
	}
	next := old
	next.State = to
	if change != nil {
		change(&next)
	}
	if err := m.store.PutSandbox(next); err != nil {
		return old, err
	}
	e.value.Store(&next)
	if kind, told := sandboxEvents[to]; told && to != old.State {
		m.publish(pod.Event{Kind: kind, Sandbox: next, From: old.State, To: to})
	}
	return next, nil
}

// putContainer is putSandbox for a container.
func (m *Manager) putContainer(e *containerEntry, to pod.State, change func(*pod.Container)) (pod.Container, error) {
	e.door.Lock()
	defer e.door.Unlock()
	old := *e.value.Load()
	if to != old.State {
		if err := pod.CheckContainerMove(old.State, to); err != nil {
			return old, err
		}
	}
	next := old
	next.State = to
	if change != nil {
		change(&next)
	}
	if err := m.store.PutContainer(next); err != nil {
		return old, err
	}
	e.value.Store(&next)
	if to == pod.Exited && old.State != pod.Exited {
		close(e.exited)
	}
	if kind, told := containerEvents[to]; told && to != old.State {
		m.publishContainer(kind, next, old.State)
	}
	return next, nil
}

// sandboxEvents and containerEvents say which moves are facts for others. Removal
// is told by forget, after the record is gone.
var (
	sandboxEvents   = map[pod.State]pod.EventKind{pod.Ready: pod.SandboxReady, pod.NotReady: pod.SandboxStopped}
	containerEvents = map[pod.State]pod.EventKind{
		pod.Created: pod.ContainerCreated, pod.Running: pod.ContainerStarted, pod.Exited: pod.ContainerExited,
	}
)

// forgetSandbox deletes the record of a sandbox in state Removing, then its place
// in memory, then tells. A sandbox that never became Ready is not told of.
func (m *Manager) forgetSandbox(e *sandboxEntry, told bool) error {
	e.door.Lock()
	defer e.door.Unlock()
	sb := *e.value.Load()
	if err := m.store.DeleteSandbox(sb.ID); err != nil {
		return err
	}
	m.index.dropSandbox(sb)
	if told {
		m.publish(pod.Event{Kind: pod.SandboxRemoved, Sandbox: sb, From: pod.Removing})
	}
	return nil
}

// forgetContainer is forgetSandbox for a container.
func (m *Manager) forgetContainer(e *containerEntry, told bool) error {
	e.door.Lock()
	defer e.door.Unlock()
	c := *e.value.Load()
	if err := m.store.DeleteContainer(c.ID); err != nil {
		return err
	}
	m.index.dropContainer(c)
	m.asked.forget(c.ID)
	m.stalls.forget(c.ID)
	if told {
		m.publishContainer(pod.ContainerRemoved, c, pod.Removing)
	}
	return nil
}

func (m *Manager) publishContainer(kind pod.EventKind, c pod.Container, from pod.State) {
	m.publish(pod.Event{Kind: kind, Container: &c, From: from, To: c.State})
}

// publish tells a fact. What the event says of the rest of the pod is read in the order
// in which events are numbered, so that of two events the later one never shows an older
// pod: kubelet takes the last one's for what is.
func (m *Manager) publish(e pod.Event) {
	m.hub.Publish(e, func(e *pod.Event) {
		if c := e.Container; c != nil {
			if owner, err := m.index.sandbox(string(c.SandboxID)); err == nil {
				e.Sandbox = *owner.value.Load()
			}
		}
		e.Siblings = m.ContainersOf(e.Sandbox.ID)
	})
}
