package lifecycle

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle/proc"
	"github.com/vitrine-runtime/vitrine/pod"
)

// InspectSandbox returns what a verbose status adds, as JSON under "info".
func (m *Manager) InspectSandbox(id string) (map[string]string, error) {
	sb, err := m.Sandbox(id)
	if err != nil {
		return nil, err
	}
	return info(map[string]any{
		"pid": sb.Init.PID, "state": sb.State, "namespaces": sb.Namespaces, "network": sb.Network.Network,
		"ips": sb.Network.IPs, "resources": sandboxResources(sb.Resources, sb.Config.GetLinux().GetResources()),
		"overhead": sandboxResources(sb.Overhead, sb.Config.GetLinux().GetOverhead()), "cgroupParent": sb.CgroupParent, "runtimeHandler": sb.Handler, "traceparent": sb.Traceparent,
	})
}

// sandboxResources are the last ones that were told, or the request's.
func sandboxResources(told *pod.Resources, asked *runtime.LinuxContainerResources) *runtime.LinuxContainerResources {
	if told != nil {
		return told.LinuxContainerResources
	}
	return asked
}

// InspectContainer returns what a verbose status adds, as JSON under "info": among
// it the pid and the runtime specification, which crictl and node agents read, and
// what the monitor has counted (wire.Counters).
func (m *Manager) InspectContainer(id string) (map[string]string, error) {
	c, err := m.Container(id)
	if err != nil {
		return nil, err
	}
	values := map[string]any{
		"sandboxID": c.SandboxID, "pid": c.Init.PID, "state": c.State, "cgroup": c.Cgroup, "rootfs": c.Rootfs,
		"runtimeHandler": c.Handler, "createdBy": c.Way, "exit": c.Exit, "traceparent": c.Traceparent,
	}
	if f := c.Evidence.Flight; f != nil {
		values["flight"] = f
	}
	if s := c.Evidence.Start; s != nil {
		values["start"] = s
	}
	if raw, err := os.ReadFile(filepath.Join(m.store.ContainerDir(c.ID), "config.json")); err == nil {
		values["runtimeSpec"] = json.RawMessage(raw)
	}
	if e, err := m.index.container(id); err == nil {
		if monitor := e.monitor.Load(); monitor != nil {
			ctx, cancel := context.WithTimeout(m.ctx, inspectBound)
			defer cancel()
			if counters, err := monitor.Stats(ctx); err == nil {
				values["monitor"] = counters
			}
		}
	}
	return info(values)
}

// inspectBound is how long a status may wait for a monitor's counters; one that does not
// answer is left out.
const inspectBound = time.Second

func info(values map[string]any) (map[string]string, error) {
	raw, err := json.Marshal(values)
	if err != nil {
		return nil, err
	}
	return map[string]string{"info": string(raw)}, nil
}

// Monitors are figures of all containers' monitors together, memory in bytes.
type Monitors struct{ Connected, ResidentSum, ResidentMax int64 }

// Monitors reads the monitors' memory from /proc; it speaks to none of them.
func (m *Manager) Monitors() Monitors {
	var all Monitors
	for _, e := range m.index.allContainers() {
		monitor := e.monitor.Load()
		if monitor == nil {
			continue
		}
		all.Connected++
		resident := proc.ResidentBytes(monitor.MonitorPID())
		all.ResidentSum += resident
		all.ResidentMax = max(all.ResidentMax, resident)
	}
	return all
}

// Live is what can be seen of a running container beside its cgroup.
type Live struct {
	// Process is the state letter of PID 1 (proc(5)), Wait the kernel function that it
	// sleeps in, Monitor the state letter of its monitor; empty when not known.
	Process, Wait, Monitor string
	// Zombies are children of PID 1 that have ended and that it has not waited for, at
	// most proc.MaxChildren of them.
	Zombies int
	// LogBytes have come from the container's streams so far, LogDropped of them could
	// not be written; zero when the monitor does not answer.
	LogBytes, LogDropped int64
}

// Look reads the states of a container's processes and asks its monitor, which may
// hang, for its counters, within ctx.
func (m *Manager) Look(ctx context.Context, id pod.ID) Live {
	var live Live
	e, err := m.index.container(string(id))
	if err != nil {
		return live
	}
	if init := e.value.Load().Init; proc.Alive(init) {
		live.Process, live.Wait = proc.StateAndWait(init.PID)
		live.Zombies = proc.Zombies(init.PID)
	}
	monitor := e.monitor.Load()
	if monitor == nil {
		return live
	}
	live.Monitor, _ = proc.StateAndWait(monitor.MonitorPID())
	if live.Monitor != "T" { // a stopped one would cost the whole of ctx
		if c, err := monitor.Stats(ctx); err == nil {
			live.LogBytes, live.LogDropped = int64(c.LogBytesIn), int64(c.LogDropped)
		}
	}
	return live
}
