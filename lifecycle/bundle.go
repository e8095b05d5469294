package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// write puts the bundle and the launcher's requests into the container's directory.
func (p *plan) write(context.Context) error {
	m, c := p.manager, p.container
	dir := m.store.ContainerDir(c.ID)
	if err := p.askMonitor(); err != nil {
		return err
	}
	if err := os.MkdirAll(m.runtimeRoot(), 0o700); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	request := launch.Request{
		ID: string(c.ID), Bundle: dir, Root: m.runtimeRoot(), Op: launch.OpCreate,
		Runtime:      m.runtime(p.handler),
		SeccompCache: filepath.Join(m.config.StateDir, "seccomp"),
		Filters:      filepath.Join(m.config.StateDir, "filters"),
	}
	if m.enterer != nil && !m.config.LibcontainerOnly {
		request.Enterer, request.Bare = m.enterPath(), m.bare.path()
	}
	if p.restore != nil {
		if err := p.restore.snapshot.SameProcess(p.spec); err != nil {
			return err
		}
		request.Op, request.Criu = launch.OpRestore, p.restore.launch()
	}
	files := map[string]any{"config.json": p.spec, processFile: p.spec.Process, createFile: request}
	if p.launcherStarts() {
		request.Op = launch.OpStart
		files[startFile] = request
	}
	if p.handler.external() {
		request.Op = launch.OpDelete
		files[deleteFile] = request
		request.Op = launch.OpWatch
		if p.handler.Shim != "" {
			files[watchFile] = request
		}
	}
	for name, value := range files {
		raw, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			return fmt.Errorf("write bundle: %w", err)
		}
	}
	return nil
}

// The launcher's requests in a container's directory.
const (
	createFile = "launch.json"
	startFile  = "launch-start.json"
	deleteFile = "launch-delete.json"
	watchFile  = "launch-watch.json"
)

// spawn describes the monitor to start.
func (p *plan) spawn(traceparent string) client.Spawn {
	m, sb, c := p.manager, p.sandbox, p.container
	dir := m.store.ContainerDir(c.ID)
	s := client.Spawn{
		Dir: dir, ID: string(c.ID), MonitorPath: m.config.MonitorPath, LaunchPath: m.config.launcher(p.handler),
		Request: filepath.Join(dir, createFile), LogPath: c.LogPath,
		Terminal: c.Config.GetTty(), Stdin: c.Config.GetStdin(), StdinOnce: c.Config.GetStdinOnce(),
		Traceparent: traceparent, TelemetrySocket: m.config.TelemetrySocket, OOMScoreAdj: max(m.config.Effective().MonitorOOMScoreAdj, m.host.Facts.MinOOMScoreAdj),
		Attributes: map[string]string{},
	}
	s.Notify = p.notify
	logSinks(&s, p.log, sb.Config.GetLogDirectory())
	for _, kv := range telemetry.ContainerAttributes(sb, *c) {
		s.Attributes[string(kv.Key)] = kv.Value.Emit()
	}
	if p.launcherStarts() {
		s.StartRequest = filepath.Join(dir, startFile)
	} else {
		s.ExecFifo = launch.ExecFifo(m.runtimeRoot(), string(c.ID))
	}
	if p.handler.external() {
		s.DeleteRequest = filepath.Join(dir, deleteFile)
	}
	if p.handler.Shim != "" {
		s.WatchRequest = filepath.Join(dir, watchFile)
	}
	return s
}

// launcherStarts: there is no init that waits at a fifo for its start.
func (p *plan) launcherStarts() bool { return p.handler.external() || p.restore != nil }

// runtimeRoot is where runtimes keep their state.
func (m *Manager) runtimeRoot() string { return filepath.Join(m.config.StateDir, "runtime") }
