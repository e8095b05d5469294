package lifecycle

import (
	"path/filepath"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Place is somewhere on the host that a container writes to.
type Place struct {
	// Name is what it is to the container, Path where it is on the host.
	Name, Path string
}

// Places are where a container writes to: its writable layer, its log, its writable
// volumes, its pod's shared memory. They need not be there any more.
func (m *Manager) Places(c pod.Container) []Place {
	places := []Place{{"its writable layer", c.Rootfs}}
	if c.LogPath != "" {
		places = append(places, Place{"its log", filepath.Dir(c.LogPath)})
	}
	for _, mount := range c.Config.GetMounts() {
		if !mount.GetReadonly() && mount.GetHostPath() != "" {
			places = append(places, Place{"its volume at " + mount.GetContainerPath(), mount.GetHostPath()})
		}
	}
	if sb, err := m.Sandbox(string(c.SandboxID)); err == nil && ownIPC(sb) {
		places = append(places, Place{"/dev/shm", filepath.Join(m.store.SandboxDir(sb.ID), shmDir)})
	}
	return places
}
