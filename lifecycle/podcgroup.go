package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/vitrine-runtime/vitrine/pod"
)

// A pod's cgroup is kubelet's to make and to remove. Other clients leave that to the
// runtime, and may name the same cgroup for several pods: then it belongs to all of
// them, and the last one takes it away.

// podCgroups says which pods have done with their cgroup. The zero value works.
type podCgroups struct {
	mu   sync.Mutex // guards left
	left map[pod.ID]bool
}

// podCgroup is kubelet's cgroup_parent, or one of our own for clients that name none.
func podCgroup(sb pod.Sandbox) string {
	return cmp.Or(sb.Config.GetLinux().GetCgroupParent(), "/vitrine/"+string(sb.ID))
}

func podResources(sb pod.Sandbox) *pod.Resources {
	return wrap(sb.Config.GetLinux().GetResources())
}

// ownsCgroup says whether the pod's cgroup is ours: nobody has made it yet, or it is
// shared with a pod of ours.
func (m *Manager) ownsCgroup(sb pod.Sandbox) bool {
	_, err := m.cgroups.ID(m.cgroups.PodPath(sb.CgroupParent))
	return errors.Is(err, pod.ErrNotFound) || m.sharesCgroup(sb)
}

// sharesCgroup says whether another pod of ours owns the same cgroup.
func (m *Manager) sharesCgroup(sb pod.Sandbox) bool {
	path := m.cgroups.PodPath(sb.CgroupParent)
	for _, e := range m.index.allSandboxes() {
		if other := e.value.Load(); other.ID != sb.ID && other.OwnCgroup && m.cgroups.PodPath(other.CgroupParent) == path {
			return true
		}
	}
	return false
}

// createPodCgroup makes the pod's cgroup when nobody has made it.
func (m *Manager) createPodCgroup(ctx context.Context, sb pod.Sandbox) (made bool, err error) {
	limits, err := m.host.Limits(podResources(sb))
	if err != nil {
		return false, err
	}
	return m.cgroups.CreatePod(ctx, sb.CgroupParent, limits)
}

// removePodCgroup removes the pod's cgroup if it is our own and no other pod of ours is
// in it; else only what we made below it. It may be called again.
func (m *Manager) removePodCgroup(_ context.Context, sb pod.Sandbox) error {
	path := m.cgroups.PodPath(sb.CgroupParent)
	switch others := m.leaveCgroup(sb, path); {
	case others > 0:
		m.cgroups.Forget(path)
		return nil
	case !sb.OwnCgroup:
		m.cgroups.Forget(path)
		return m.cgroups.RemovePlace(sb.CgroupParent)
	}
	return ignoreGone(m.cgroups.Remove(path))
}

// leaveCgroup notes that the pod has done with its cgroup and counts the others that
// have not. Of two that leave at one time the second one finds none.
func (m *Manager) leaveCgroup(sb pod.Sandbox, path string) (others int) {
	c := &m.podCgroups
	c.mu.Lock()
	defer c.mu.Unlock()
	known := map[pod.ID]bool{sb.ID: true}
	for _, e := range m.index.allSandboxes() {
		other := e.value.Load()
		known[other.ID] = true
		if other.ID != sb.ID && !c.left[other.ID] && m.cgroups.PodPath(other.CgroupParent) == path {
			others++
		}
	}
	if c.left == nil {
		c.left = map[pod.ID]bool{}
	}
	for id := range c.left { // of pods that are gone
		if !known[id] {
			delete(c.left, id)
		}
	}
	c.left[sb.ID] = true
	return others
}

// forPods is the MonitorCgroup that has monitors count for their pods.
const forPods = "pod"

// monitorCgroup is where the monitors of a pod's containers are born, made if need be, in
// the words of client.Spawn.
func (m *Manager) monitorCgroup(sb pod.Sandbox) (string, error) {
	parent := m.config.MonitorCgroup
	switch parent {
	case "":
		return "", nil
	case forPods:
		parent = sb.CgroupParent
	}
	dirs, err := m.cgroups.Place(parent)
	return strings.Join(dirs, ":"), err
}
