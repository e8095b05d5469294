package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/image"
	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/lifecycle/cdi"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// CreateContainer makes a container up to the point where its init waits to
// execute the user's program. The same request again returns the container that
// the first one made; a different one for the same attempt is ErrExists.
func (m *Manager) CreateContainer(ctx context.Context, sandbox string, config *runtime.ContainerConfig) (pod.ID, error) {
	return m.makeContainer(ctx, sandbox, config, nil)
}

// makeContainer is CreateContainer, or with restore the making of a container whose
// processes are those of a checkpoint.
func (m *Manager) makeContainer(ctx context.Context, sandbox string, config *runtime.ContainerConfig, restore *restoring) (pod.ID, error) {
	owner, err := m.index.sandbox(sandbox)
	if err != nil {
		return "", err
	}
	sb := *owner.value.Load()
	if sb.State != pod.Ready {
		return "", fmt.Errorf("create container in sandbox %s: %w: it is %s, not %s", sb.ID.Short(), pod.ErrState, sb.State, pod.Ready)
	}
	c := pod.Container{
		ID: pod.NewID(), SandboxID: sb.ID, State: pod.Creating, Config: pod.ContainerConfig{ContainerConfig: config},
		Handler: sb.Handler, CreatedAt: time.Now(), Traceparent: telemetry.Traceparent(ctx),
	}
	x := m.index
	x.mu.Lock()
	if f := x.containerFlights[c.Key()]; f != nil {
		x.mu.Unlock()
		return f.wait(ctx)
	}
	var leftover *containerEntry // of an attempt that could not be undone
	if id, exists := x.containerKeys[c.Key()]; exists {
		present := x.containers[id]
		old := present.value.Load()
		if old.State != pod.Creating {
			x.mu.Unlock()
			if proto.Equal(old.Config.ContainerConfig, config) {
				return id, nil
			}
			return "", fmt.Errorf("%s: %w as %s with another configuration", c.Key(), pod.ErrExists, id.Short())
		}
		leftover = present
	}
	x.containerFlights[c.Key()] = &flight{done: make(chan struct{})}
	x.mu.Unlock()

	return fly(ctx, m, x.containerFlights, c.Key(), c.ID, func(ctx context.Context) error {
		if leftover != nil {
			if err := m.clearInterrupted(ctx, leftover, m.monitors()); err != nil {
				return err
			}
		}
		return m.createContainer(ctx, owner, c, restore)
	})
}

// previousAttempt is the last attempt before c of the same container, empty without one.
func previousAttempt(siblings []pod.Container, c pod.Container) (previous pod.ID) {
	key, last := c.Key(), int64(-1)
	for _, s := range siblings {
		if k := s.Key(); k.Name == key.Name && k.Attempt < key.Attempt && int64(k.Attempt) > last {
			previous, last = s.ID, int64(k.Attempt)
		}
	}
	return previous
}

func (m *Manager) createContainer(ctx context.Context, owner *sandboxEntry, c pod.Container, restore *restoring) (err error) {
	sb := *owner.value.Load()
	ctx, op := m.ops.begin(ctx, "create_container", subject(sb)+"/"+c.Config.GetMetadata().GetName(), c.ID, telemetry.ContainerAttributes(sb, c))
	defer op.end(&err)
	op.enter("lock")
	if err := owner.lock.acquire(ctx, sb.ID); err != nil {
		return err
	}
	defer owner.lock.release()
	if sb = *owner.value.Load(); sb.State != pod.Ready {
		return fmt.Errorf("create container in sandbox %s: %w: it is %s, not %s", sb.ID.Short(), pod.ErrState, sb.State, pod.Ready)
	}
	warm, cancelWarm := context.WithCancel(ctx)
	defer cancelWarm()
	m.cgroups.Warm(warm)

	var undo undo
	defer func() {
		if err != nil {
			op.enter("undo")
			err = errors.Join(err, undo.run(ctx))
		}
	}()

	op.enter("image")
	img, err := m.images.Status(ctx, c.Config.GetImage().GetImage())
	if err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	if err := labelContainer(&sb, c.Config.ContainerConfig); err != nil {
		return err
	}
	c.Previous = previousAttempt(m.ContainersOf(sb.ID), c)
	plan := &plan{manager: m, sandbox: sb, container: &c, image: img, restore: restore}
	if err := op.step(ctx, "resolve", plan.resolve); err != nil {
		return err
	}

	var e *containerEntry
	if err := op.step(ctx, "record", func(context.Context) error {
		if err := m.store.PutContainer(c); err != nil {
			return err
		}
		e = m.index.addContainer(c)
		return nil
	}); err != nil {
		return err
	}
	undo.add("record", func(context.Context) error { return m.forgetContainer(e, false) })

	// The monitor and the launcher begin now, beside what they will need.
	early, err := client.StartEarly(ctx, plan.spawn(telemetry.Traceparent(ctx)))
	if err != nil {
		return err
	}
	undo.add("early monitor", func(context.Context) error { return early.Cancel() })

	op.enter("rootfs")
	undo.add("rootfs", func(ctx context.Context) error { return m.images.RemoveRootfs(ctx, string(c.ID)) })
	rootfs, err := m.images.CreateRootfs(ctx, rootfsRequest(sb, c))
	if err != nil {
		return err
	}
	c.Rootfs = rootfs.Path
	if restore != nil {
		if err := op.step(ctx, "unpack", plan.unpackSnapshot); err != nil {
			return err
		}
	}
	if hasVolumes(c) {
		undo.add("volumes", func(ctx context.Context) error { return m.removeVolumes(ctx, c) })
		if err := op.step(ctx, "volumes", plan.mountVolumes); err != nil {
			return err
		}
	}

	if sb.MountLabel != "" {
		if err := op.step(ctx, "relabel", plan.relabel); err != nil {
			return err
		}
	}
	if err := op.step(ctx, "spec", plan.describe); err != nil {
		return err
	}
	if len(plan.devices) > 0 {
		if err := op.step(ctx, "cdi", plan.injectDevices); err != nil {
			return err
		}
	}
	if m.plugins != nil {
		undo.add("plugins", func(ctx context.Context) error {
			warn(ctx, "tell plugins of a container that was not made", m.plugins.RemoveContainer(ctx, sb, c), "container", c.ID)
			return nil
		})
		if err := op.step(ctx, "plugins", plan.askPlugins); err != nil {
			return err
		}
	}
	undo.add("runtime", func(ctx context.Context) error { return m.deleteRuntimeState(ctx, c) })
	if err := op.step(ctx, "bundle", plan.write); err != nil {
		return err
	}

	if err := op.step(ctx, "observe", func(ctx context.Context) error { m.trackEarly(ctx, &c, plan.handler); return nil }); err != nil {
		return err
	}
	op.enter("monitor.create")
	monitor, created, err := early.Proceed()
	if err != nil {
		return fmt.Errorf("create container %s: %w", c.ID.Short(), m.tooSmall(ctx, c, launchError(err)))
	}
	undo.add("monitor", func(ctx context.Context) error {
		defer monitor.Close()
		return ignoreGone(monitor.Destroy(ctx))
	})

	if restore != nil {
		if err := op.step(ctx, "verify", plan.verifyRestored); err != nil {
			return err
		}
	}
	if err := op.step(ctx, "created", func(context.Context) error {
		pid := m.initPID(plan.handler, c.ID, created.PID)
		start, err := processStart(pid)
		if err != nil {
			return fmt.Errorf("create container %s: init %d: %w", c.ID.Short(), pid, err)
		}
		c.Init = pod.Process{PID: pid, StartTime: start}
		m.trackInit(ctx, &c)
		if _, err := m.putContainer(e, pod.Created, func(next *pod.Container) { *next = c; next.State = pod.Created }); err != nil {
			return err
		}
		m.watch(e, monitor)
		return nil
	}); err != nil {
		return err
	}
	op.enter("plugins")
	warn(ctx, "tell plugins of a new container", m.tell(ctx, e, Plugins.PostCreateContainer), "container", c.ID)
	return nil
}

// rootfsRequest describes the container's root file system; in a pod with its own
// user namespace the files belong to the mapped ids.
func rootfsRequest(sb pod.Sandbox, c pod.Container) image.RootfsRequest {
	request := image.RootfsRequest{ID: string(c.ID), ImageID: c.Image.ID, MountLabel: sb.MountLabel}
	u := namespaceOptions(sb).GetUsernsOptions()
	if userNamespace(sb) == nil {
		return request
	}
	mapped := func(list []*runtime.IDMapping) []image.IDMap {
		var maps []image.IDMap
		for _, m := range list {
			maps = append(maps, image.IDMap{ContainerID: m.GetContainerId(), HostID: m.GetHostId(), Size: m.GetLength()})
		}
		return maps
	}
	request.UIDMaps, request.GIDMaps = mapped(u.GetUids()), mapped(u.GetGids())
	return request
}

// plan is what CreateContainer finds out before it acts: resolve looks things up,
// describe builds the specification, write puts it on disk.
type plan struct {
	manager   *Manager
	sandbox   pod.Sandbox
	container *pod.Container
	image     image.Image
	restore   *restoring // nil for a container that begins anew

	handler Handler
	devices []string // names of the Container Device Interface
	log     spec.LogOptions
	notify  uint8 // wire.NotifyLog, …: what the monitor is asked
	input   spec.Input
	spec    *specs.Spec
}

// resolve looks up what does not need the root file system: handler, mount
// sources, seccomp profile, devices, paths. Nothing exists yet that a failure
// would leave behind.
func (p *plan) resolve(ctx context.Context) (err error) {
	m, sb, c := p.manager, p.sandbox, p.container
	if p.handler, err = m.config.handler(c.Handler); err != nil {
		return err
	}
	if p.restore != nil {
		if err := p.sameImage(); err != nil {
			return err
		}
	}
	if p.devices, err = cdi.Requested(c.Config.ContainerConfig); err != nil {
		return err
	}
	c.Image = pod.ImageRef{ID: p.image.ID, User: c.Config.GetImage().GetUserSpecifiedImage(), Digest: repoDigest(p.image)}
	if c.LogPath, err = logPath(sb.Config.GetLogDirectory(), c.Config.GetLogPath()); err != nil {
		return err
	}
	if _, err = m.observeOptions(sb, *c); err != nil {
		return err
	}
	if p.notify, err = m.notifier(sb, *c); err != nil {
		return err
	}
	if p.log, err = m.logOptions(sb, *c); err != nil {
		return err
	}
	if c.StopSignal, err = stopSignal(ctx, c.Config.ContainerConfig, p.image.Config); err != nil {
		return err
	}
	if res := c.Config.GetLinux().GetResources(); res != nil {
		c.Resources = &pod.Resources{LinuxContainerResources: res}
	}
	var specPath string
	specPath, c.Cgroup = m.cgroups.ContainerPath(sb.CgroupParent, string(c.ID))
	p.input = spec.Input{
		Container: c.Config.ContainerConfig, Sandbox: sb.Config.PodSandboxConfig, SandboxID: sb.ID,
		Image: p.image.Config, Namespaces: sb.Namespaces, CgroupsPath: specPath,
		Host: m.host.facts, Defaults: m.host.defaultsFor(p.handler), Warn: m.host.warn,
		ProcessLabel: sb.ProcessLabel, MountLabel: sb.MountLabel,
	}
	if asksRecursive(c.Config.GetMounts()) {
		p.input.Host.RecursiveReadOnly = m.features(c.Handler).RecursiveReadOnlyMounts
	}
	dir := m.store.SandboxDir(sb.ID)
	p.input.Hostname, p.input.ResolvConf = filepath.Join(dir, hostnameFile), filepath.Join(dir, resolvFile)
	p.input.HostsFile = filepath.Join(dir, hostsFile)
	if ownIPC(sb) {
		p.input.Shm = filepath.Join(dir, shmDir)
	}
	if p.input.Sources, c.Mounts, err = m.host.mountSources(c.Config.GetMounts()); err != nil {
		return err
	}
	if p.input.Devices, err = hostDevices(c.Config.GetDevices()); err != nil {
		return err
	}
	if p.input.PidNS, err = m.targetPidNS(sb, c.Config.ContainerConfig); err != nil {
		return err
	}
	p.input.Seccomp, err = localhostSeccomp(c.Config.ContainerConfig)
	return err
}

// repoDigest is the image's name@sha256:…, empty without one. Any of them names the
// image; the one that was pulled is preferred.
func repoDigest(img image.Image) (name string) {
	for _, name = range img.RepoDigests {
		if strings.HasSuffix(name, img.Digest) && img.Digest != "" {
			break
		}
	}
	return name
}

// describe builds the OCI specification, which needs the image's users.
func (p *plan) describe(context.Context) (err error) {
	c := p.container
	p.input.Rootfs = c.Rootfs
	if c.User, err = resolveUser(c.Rootfs, p.sandbox, c.Config.ContainerConfig, p.image.Config.Config.User); err != nil {
		return err
	}
	p.input.User = c.User
	if err := makeVolumes(c.Rootfs, p.image.Config.Config.Volumes); err != nil {
		return err
	}
	if p.spec, err = spec.Container(p.input); err != nil {
		return err
	}
	p.spec.Hooks = p.manager.host.hooks(p.spec)
	if p.handler.external() {
		p.forExternal()
	}
	if p.handler.Shim != "" {
		p.forShim()
	}
	return nil
}

// injectDevices edits the specification for the devices that the request names.
func (p *plan) injectDevices(context.Context) error {
	if err := cdi.Inject(p.spec, p.manager.config.CDISpecDirs, p.devices); err != nil {
		return err
	}
	if p.handler.external() && len(p.spec.Linux.NetDevices) > 0 {
		return fmt.Errorf("%w: CDI device brings network devices, which only the native handler is known to move", pod.ErrUnsupported)
	}
	return nil
}

// externalVersion is the version of the specification that is told to external
// runtimes: old ones refuse a newer one than they know, and nothing here needs it.
const externalVersion = "1.0.2"

// forExternal says the same in the words of older runtimes: runc 1.1 refuses a user
// namespace to join without mappings, which the specification leaves to the namespace.
func (p *plan) forExternal() {
	p.spec.Version = externalVersion
	rootfs := rootfsRequest(p.sandbox, *p.container)
	for _, m := range rootfs.UIDMaps {
		p.spec.Linux.UIDMappings = append(p.spec.Linux.UIDMappings, specs.LinuxIDMapping(m))
	}
	for _, m := range rootfs.GIDMaps {
		p.spec.Linux.GIDMappings = append(p.spec.Linux.GIDMappings, specs.LinuxIDMapping(m))
	}
}

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
	if p.restore != nil {
		if err := p.sameProcess(); err != nil {
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
		Traceparent: traceparent, TelemetrySocket: m.config.TelemetrySocket, OOMScoreAdj: m.host.monitorOOMScoreAdj,
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

// logPath joins the pod's log directory and the container's relative path, which
// must stay inside (CVE-2025-0750).
func logPath(dir, name string) (string, error) {
	if dir == "" || name == "" {
		return "", nil
	}
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("%w: log_path %q leaves the log directory", pod.ErrInvalid, name)
	}
	return filepath.Join(dir, name), nil
}

// stopSignal is the request's, else the image's. An image's that nobody knows is
// told and replaced; a pod's author can be told directly.
func stopSignal(ctx context.Context, config *runtime.ContainerConfig, image v1.Image) (string, error) {
	name, _, err := spec.StopSignal(config, image)
	if err != nil && config.GetStopSignal() == runtime.Signal_SIGNAL_RUNTIME_DEFAULT {
		warn(ctx, "the image's stop signal is unknown; SIGTERM will be sent", err)
		return "SIGTERM", nil
	}
	return name, err
}

// targetPidNS is the pid namespace of the container that the request targets.
func (m *Manager) targetPidNS(sb pod.Sandbox, config *runtime.ContainerConfig) (string, error) {
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if options.GetPid() != runtime.NamespaceMode_TARGET {
		return "", nil
	}
	target, err := m.Container(options.GetTargetId())
	if err != nil {
		return "", fmt.Errorf("%w: target_id: %w", pod.ErrInvalid, err)
	}
	if target.SandboxID != sb.ID {
		return "", fmt.Errorf("%w: target_id %s is a container of another pod", pod.ErrInvalid, target.ID.Short())
	}
	if target.State != pod.Running || !alive(target.Init) {
		return "", fmt.Errorf("target container %s: %w: it is %s", target.ID.Short(), pod.ErrState, target.State)
	}
	path := fmt.Sprintf("/proc/%d/ns/pid", target.Init.PID)
	if handler, err := m.config.handler(target.Handler); err == nil && handler.Shim != "" {
		if theirs, err := os.Readlink(path); err != nil || theirs == hostPidNS() {
			return "", fmt.Errorf("target container %s: %w: its shim shows no pid namespace on this host", target.ID.Short(), pod.ErrUnsupported)
		}
	}
	return path, nil
}
