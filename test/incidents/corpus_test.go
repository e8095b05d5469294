package incidents

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// spoiled pulls an image whose registry has a fault.
func spoiled(f fixture.Fault, succeeds bool) func(*world) {
	return func(w *world) {
		image := w.faulty(f)
		err := w.pull(image)
		if succeeds && err != nil {
			w.Fatal(err)
		} else if !succeeds && err == nil {
			w.Fatal("the image was pulled")
		}
	}
}

func answers(code int) func(*world) {
	return spoiled(fixture.Fault{Method: "GET", Path: "/manifests/", Status: code, Header: http.Header{"Retry-After": {"1"}}}, false)
}

var registry = group{
	name: "registry",
	options: func(*testing.T, string) harness.Options {
		return harness.Options{Config: fmt.Sprintf("[image]\nstall_timeout = %q\n", delay)}
	},
	incidents: []incident{
		{name: "registry slow to name the manifest", cause: "image.slow", evidence: []string{"image.", "PullImage"}, inject: func(w *world) {
			if err := w.pull(w.faulty(fixture.Fault{Method: "GET", Path: "/manifests/", Delay: delay * 2 / 3})); err != nil {
				w.Fatal(err)
			}
		}},
		{name: "registry slow to send a layer", cause: "image.slow", evidence: []string{"image.layer"},
			inject: spoiled(fixture.Fault{Method: "GET", Path: "/blobs/", Rate: 300 << 10}, true)},
		{name: "layer that stalls", cause: "image.stall", evidence: []string{"no progress"},
			inject: spoiled(fixture.Fault{Method: "GET", Path: "/blobs/", StallAfter: 100 << 10}, false)},
		{name: "401", cause: "image.auth", evidence: []string{"PullImage failed"}, inject: answers(401)},
		{name: "403", cause: "image.denied", evidence: []string{"PullImage failed"}, inject: answers(403)},
		{name: "404", cause: "image.notfound", evidence: []string{"PullImage failed"}, inject: answers(404)},
		{name: "429", cause: "image.ratelimit", evidence: []string{"PullImage failed"}, inject: answers(429)},
		{name: "503", cause: "image.server", evidence: []string{"PullImage failed"}, inject: answers(503)},
		{name: "layer with a flipped bit", cause: "image.digest", evidence: []string{"PullImage failed"},
			inject: spoiled(fixture.Fault{Method: "GET", Path: "/blobs/", Flip: 5000}, false)},
		{name: "registry whose name does not resolve", cause: "image.dns", evidence: []string{"no-such-registry.invalid"},
			inject: func(w *world) { w.fails("no-such-registry.invalid/app:1") }},
		{name: "registry that does not listen", cause: "image.tcp", evidence: []string{"127.0.0.1:1"},
			inject: func(w *world) { w.fails("127.0.0.1:1/app:1") }},
		{name: "registry without TLS", cause: "image.tls", evidence: []string{"HTTPS"}, inject: func(w *world) {
			p := harness.Must(fixture.StartProxy(hub.Addr))(w)
			w.undo = append(w.undo, func() { p.Close() })
			w.fails(p.Addr + "/test/box:1")
		}},
		{name: "image that was not pulled", cause: "image.missing", evidence: []string{"never/pulled:1"}, inject: func(w *world) {
			w.refused(func(c *runtime.ContainerConfig) { c.Image.Image = hub.Addr + "/never/pulled:1" }, "true")
		}},
	},
}

// hostile has a CNI plugin and hooks that misbehave when told to.
var hostile = group{
	name: "plugins and hooks",
	options: func(t *testing.T, dir string) harness.Options {
		bundled := filepath.Join(harness.Must(harness.Bin())(t), "cni")
		plugins, hooks := filepath.Join(dir, "cni"), filepath.Join(dir, "hooks")
		for _, d := range []string{plugins, hooks} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		script(t, filepath.Join(plugins, "bridge"), fmt.Sprintf(`if [ $CNI_COMMAND = ADD ]; then
[ ! -e %[1]s/slow ] || sleep $(cat %[1]s/slow)
if [ -e %[1]s/full ]; then echo '{"cniVersion":"1.0.0","code":100,"msg":"no IP addresses available in range set: 10.0.0.1-10.0.0.2"}'; exit 1; fi
if [ -e %[1]s/mute ]; then echo 'segmentation fault in bridge' >&2; exit 3; fi
fi
exec %[2]s/bridge`, dir, bundled))
		script(t, filepath.Join(hooks, "wait"), fmt.Sprintf("cat >/dev/null; sleep %g", delay.Seconds()))
		script(t, filepath.Join(hooks, "refuse"), "cat >/dev/null; echo 'the licence has expired' >&2; exit 4")
		for name, program := range map[string]string{"wait": "/bin/sleep", "refuse": "/bin/tail"} {
			hook := fmt.Sprintf(`{"version": "1.0.0", "hook": {"path": %q}, "when": {"commands": ["^%s$"]}, "stages": ["createRuntime"]}`, filepath.Join(hooks, name), program)
			if err := os.WriteFile(filepath.Join(hooks, name+".json"), []byte(hook), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return harness.Options{CNIBin: []string{plugins}, Config: fmt.Sprintf("[runtime]\nhooks_dir = %q\n", hooks)}
	},
	incidents: []incident{
		{name: "CNI plugin that is slow", cause: "network.slow", evidence: []string{"bridge", "ADD"}, inject: func(w *world) {
			w.flag("slow", fmt.Sprint(delay.Seconds()))
			w.run()
		}},
		{name: "CNI plugin that hangs", cause: "network.hanging", evidence: []string{"bridge", "ADD", "going on"}, passing: true, inject: func(w *world) {
			remove := w.flag("slow", fmt.Sprint(4*delay.Seconds()))
			done := make(chan struct{})
			go func() { // ends with the plugin
				defer close(done)
				w.cri.RunPod(w.ctx, w.pod)
			}()
			w.undo = append(w.undo, func() { remove(); <-done })
		}},
		{name: "CNI plugin without an address left", cause: "network.exhausted", evidence: []string{"no IP addresses available"}, inject: func(w *world) {
			w.flag("full", "")
			w.noPod()
		}},
		{name: "CNI plugin that dies", cause: "network.failed", evidence: []string{"segmentation fault in bridge"}, inject: func(w *world) {
			w.flag("mute", "")
			w.noPod()
		}},
		{name: "hook that is slow", cause: "hook.slow", evidence: []string{"oci.hook", "wait"}, inject: func(w *world) { w.container(nil, "/bin/sleep", "100") }},
		{name: "hook that refuses", cause: "hook.failed", evidence: []string{"the licence has expired"}, inject: func(w *world) { w.refused(nil, "/bin/tail", "-f", "/dev/null") }},
	},
}

// flag makes a file that the group's scripts look for.
func (w *world) flag(name, content string) (remove func()) {
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		w.Fatal(err)
	}
	remove = func() { os.Remove(path) }
	w.undo = append(w.undo, remove)
	return remove
}

// noPod wants a sandbox that cannot be made.
func (w *world) noPod() {
	w.Helper()
	if _, err := w.cri.RunPod(w.ctx, w.pod); err == nil {
		w.Fatal("the sandbox was made")
	}
}

// bind shows a path of the host in the container.
func bind(mounts ...string) func(*runtime.ContainerConfig) {
	return func(c *runtime.ContainerConfig) {
		for i := 0; i < len(mounts); i += 2 {
			c.Mounts = append(c.Mounts, &runtime.Mount{HostPath: mounts[i], ContainerPath: mounts[i+1], Readonly: true})
		}
	}
}

// loader is the host's dynamic loader by the name that programs ask for.
func loader(t testing.TB) (path, name string) {
	t.Helper()
	for _, name := range []string{"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"} {
		if path, err := filepath.EvalSymlinks(name); err == nil {
			return path, name
		}
	}
	t.Fatal("no dynamic loader on this host")
	return "", ""
}

var programs = group{
	name: "programs",
	incidents: []incident{
		{name: "command that is not there", cause: "process.missing", evidence: []string{"/no/such/program"},
			inject: func(w *world) { w.refused(nil, "/no/such/program") }},
		{name: "program without its loader", cause: "process.interpreter", evidence: []string{"/bin/dynamic"},
			inject: func(w *world) { w.refused(bind("/bin/ls", "/bin/dynamic"), "/bin/dynamic") }},
		{name: "program without its libraries", cause: "process.library", evidence: []string{"shared libraries"}, inject: func(w *world) {
			path, name := loader(w)
			w.ends(bind("/bin/ls", "/bin/dynamic", path, name), "/bin/dynamic")
		}},
		{name: "program in no executable format", cause: "process.format", evidence: []string{"exec format error"}, inject: func(w *world) {
			path := filepath.Join(w.dir, "garbage")
			if err := os.WriteFile(path, []byte("no program at all\n"), 0o755); err != nil {
				w.Fatal(err)
			}
			w.refused(bind(path, "/bin/garbage"), "/bin/garbage")
		}},
		{name: "program that may not be executed", cause: "process.denied", evidence: []string{"permission denied"}, inject: func(w *world) {
			w.refused(nil, "/etc/passwd")
		}},
		{name: "user that the image does not have", cause: "user.missing", evidence: []string{"nobody-here"}, inject: func(w *world) {
			w.refused(func(c *runtime.ContainerConfig) { c.Linux.SecurityContext.RunAsUsername = "nobody-here" }, "true")
		}},
		{name: "mount whose source is not there", cause: "mount.missing", evidence: []string{"/no/such/source"}, inject: func(w *world) {
			w.refused(bind("/no/such/source", "/data"), "true")
		}},
		{name: "image volume that was not pulled", cause: "volume.missing", evidence: []string{"never/pulled:1"}, inject: func(w *world) {
			w.refused(func(c *runtime.ContainerConfig) {
				c.Mounts = []*runtime.Mount{{ContainerPath: "/model", Image: &runtime.ImageSpec{Image: hub.Addr + "/never/pulled:1"}}}
			}, "true")
		}},
		{name: "seccomp profile that is not there", cause: "seccomp.missing", evidence: []string{"/no/such/profile.json"}, inject: func(w *world) {
			w.refused(func(c *runtime.ContainerConfig) {
				c.Linux.SecurityContext.Seccomp = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Localhost, LocalhostRef: "/no/such/profile.json"}
			}, "true")
		}},
		{name: "system call that seccomp forbids", cause: "seccomp.denied", evidence: []string{"SIGSYS"}, inject: func(w *world) {
			path := filepath.Join(w.dir, "profile.json")
			profile := `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["sysinfo", "mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]}`
			if err := os.WriteFile(path, []byte(profile), 0o644); err != nil {
				w.Fatal(err)
			}
			w.ends(func(c *runtime.ContainerConfig) {
				c.Linux.SecurityContext.Seccomp = &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Localhost, LocalhostRef: path}
			}, "/bin/mkdir", "/tmp/x")
		}},
		{name: "capability that the container does not have", cause: "capability.denied", evidence: []string{"CHOWN"}, inject: func(w *world) {
			w.ends(func(c *runtime.ContainerConfig) {
				c.Linux.SecurityContext.Capabilities = &runtime.Capability{DropCapabilities: []string{"ALL"}}
			}, "/bin/busybox", "chown", "1", "/tmp")
		}},
		{name: "PID 1 above its memory limit", cause: "oom.killed", evidence: []string{"OOM"}, inject: func(w *world) {
			w.ends(memory(24), "/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
		}},
		{name: "worker above the memory limit", cause: "oom.child", evidence: []string{"OOM"}, inject: func(w *world) {
			w.ends(memory(24), "/bin/sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1; exit 3")
		}},
		{name: "SIGKILL from outside", cause: "killed.outside", evidence: []string{"SIGKILL"}, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sleep", "100")
			pid, _ := w.init(id)
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				w.Fatal(err)
			}
			harness.Must(w.cri.WaitExit(w.ctx, id))(w)
		}},
		{name: "program deaf to its stop signal", cause: "stop.killed", evidence: []string{"grace"}, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done")
			if err := w.cri.Stop(w.ctx, id, 1); err != nil {
				w.Fatal(err)
			}
		}},
		{name: "program that gives up", cause: "exit.code", evidence: []string{"exited with 3", "cannot parse config"}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", "echo 'cannot parse config' >&2; exit 3")
		}},
		{name: "port in use", cause: "process.address", evidence: []string{"ddress already in use"}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", "httpd -p 8080 -h /tmp; exec httpd -f -p 8080 -h /tmp")
		}},
		{name: "write to a read-only root", cause: "process.readonly", evidence: []string{"ead-only file system"}, inject: func(w *world) {
			w.ends(func(c *runtime.ContainerConfig) { c.Linux.SecurityContext.ReadonlyRootfs = true }, "/bin/sh", "-c", "set -e; echo x >/etc/state")
		}},
		{name: "file that the user may not read", cause: "process.denied", evidence: []string{"ermission denied"}, inject: func(w *world) {
			w.ends(func(c *runtime.ContainerConfig) { c.Linux.SecurityContext.RunAsUser = &runtime.Int64Value{Value: 1000} }, "/bin/cat", "/root/secret")
		}},
	},
}

// probe runs a command in the container as kubelet's exec probe does, which says no.
func (w *world) probe(id string, times int) {
	w.Helper()
	for range times {
		if r := harness.Must(w.cri.Exec(w.ctx, id, 30, "/bin/false"))(w); r.ExitCode == 0 {
			w.Fatal("the probe said yes")
		}
	}
}

// freeze freezes the cgroup of a container, as docker pause does.
func (w *world) freeze(id string) {
	w.Helper()
	pid, _ := w.init(id)
	for line := range strings.Lines(string(harness.Must(os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)))(w))) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3) // ID:CONTROLLERS:PATH
		file, stop, run := "/sys/fs/cgroup/freezer"+parts[2]+"/freezer.state", "FROZEN", "THAWED"
		if parts[1] == "" {
			file, stop, run = "/sys/fs/cgroup"+parts[2]+"/cgroup.freeze", "1", "0"
		} else if parts[1] != "freezer" {
			continue
		}
		if err := os.WriteFile(file, []byte(stop), 0); err != nil {
			if parts[1] == "" && os.IsNotExist(err) { // v2 without the container in it, beside v1
				continue
			}
			w.Fatal(err)
		}
		w.undo = append(w.undo, func() {
			if err := os.WriteFile(file, []byte(run), 0); err != nil {
				w.Error(err)
			}
		})
		return
	}
	w.Fatal("no freezer")
}

func memory(mib int64) func(*runtime.ContainerConfig) {
	return func(c *runtime.ContainerConfig) { c.Linux.Resources.MemoryLimitInBytes = mib << 20 }
}

var figures = group{
	name: "figures",
	incidents: []incident{
		{name: "CPU limit that throttles", cause: "cpu.throttled", evidence: []string{"of its periods"}, inject: func(w *world) {
			w.container(func(c *runtime.ContainerConfig) {
				c.Linux.Resources.CpuPeriod, c.Linux.Resources.CpuQuota = 100_000, 5_000
			}, "/bin/sh", "-c", "while :; do :; done")
		}},
		{name: "probes that time out", cause: "probe.timeout", evidence: []string{"did not end in time"}, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sleep", "100")
			for range 2 {
				if _, err := w.cri.Exec(w.ctx, id, 1, "/bin/sleep", "100"); err == nil {
					w.Fatal("the probe ended")
				}
			}
		}},
		{name: "flood of log", cause: "log.flood", evidence: []string{"of log"}, inject: func(w *world) {
			w.ends(nil, "/bin/payload", "lines", "400000", "100")
		}},
		{name: "log's disk full", cause: "log.lost", evidence: []string{"are lost"}, inject: func(w *world) {
			if err := os.MkdirAll(w.pod.LogDirectory, 0o755); err != nil {
				w.Fatal(err)
			}
			if err := unix.Mount("tmpfs", w.pod.LogDirectory, "tmpfs", 0, "size=256k"); err != nil {
				w.Fatal(err)
			}
			w.undo = append(w.undo, func() { unix.Unmount(w.pod.LogDirectory, unix.MNT_DETACH) })
			w.ends(nil, "/bin/payload", "lines", "20000", "100")
		}},
		{name: "reader of the log that stands still", cause: "log.blocked", evidence: []string{"waits to write its output", "monitor"}, passing: true, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sh", "-c", "sleep 1; exec yes")
			_, monitor := w.init(id)
			if err := unix.Kill(monitor, unix.SIGSTOP); err != nil {
				w.Fatal(err)
			}
			w.undo = append(w.undo, func() { unix.Kill(monitor, unix.SIGCONT) })
		}},
		{name: "program that was stopped", cause: "process.stopped", evidence: []string{"state T"}, passing: true, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sleep", "100")
			pid, _ := w.init(id)
			if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
				w.Fatal(err)
			}
			w.undo = append(w.undo, func() { unix.Kill(pid, unix.SIGCONT) })
		}},
		{name: "container whose cgroup was frozen", cause: "process.frozen", evidence: []string{"its cgroup is frozen"}, passing: true, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sleep", "100")
			w.freeze(id)
		}},
		{name: "readiness probe that says no", cause: "probe.failed", evidence: []string{"3 of 3 commands", "another code than 0"}, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sleep", "100")
			w.probe(id, 3)
		}},
		{name: "liveness probe that says no until the container is stopped for it", cause: "probe.failed", evidence: []string{"was stopped", "3 commands"}, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sh", "-c", "trap 'exit 143' TERM; echo ready; while :; do sleep 0.1; done")
			w.logged(id, "ready")
			w.probe(id, 3)
			if err := w.cri.Stop(w.ctx, id, 30); err != nil {
				w.Fatal(err)
			}
		}},
		{name: "nothing wrong", cause: "none", passing: true, inject: func(w *world) { w.swiftly("/bin/sleep", "100") }},
	},
}

var slowDisk = group{
	name: "slow disk",
	options: func(*testing.T, string) harness.Options {
		return harness.Options{Env: []string{fmt.Sprintf("VITRINE_FAULTS=image.rootfs.mount=sleep(%v)", delay)}}
	},
	incidents: []incident{
		{name: "disk slow to mount the root file system", cause: "rootfs.slow", evidence: []string{"image.rootfs.mount"},
			inject: func(w *world) { w.container(nil, "/bin/sleep", "100") }},
	},
}

var fullDisk = group{
	name:    "full disk",
	options: func(t *testing.T, dir string) harness.Options { return smallStore(t, dir, "size=8m") },
	before:  func(*node) {},
	incidents: []incident{
		{name: "image store's disk full", cause: "unpack.disk", evidence: []string{"no space left on device"}, inject: func(w *world) {
			big := fixture.Image{Layers: []fixture.Layer{{Files: []fixture.File{{Name: "big", Body: make([]byte, 16<<20)}}}}}
			harness.Must(fixture.BuildImage(w.ctx, hub.Addr, "test/big:1", big))(w)
			w.fails(hub.Addr + "/test/big:1")
		}},
	},
}

var missingPlugin = group{
	name: "missing plugin",
	options: func(*testing.T, string) harness.Options {
		return harness.Options{CNI: `{"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "no-such-plugin"}]}`}
	},
	incidents: []incident{
		{name: "CNI plugin that is not installed", cause: "network.missing", evidence: []string{"no-such-plugin"}, inject: func(w *world) { w.noPod() }},
	},
}

var death = group{
	name: "death",
	options: func(*testing.T, string) harness.Options {
		return harness.Options{Env: []string{"VITRINE_FAULTS=image.rootfs.create=sleep(1s);lifecycle.bundle=kill(1)"}}
	},
	incidents: []incident{
		{name: "daemon killed while it made a container", cause: "daemon.restarted", evidence: []string{"create_container"}, inject: func(w *world) {
			w.run()
			c := harness.Container(w.pod, "c", w.image, "/bin/sleep", "100")
			died := w.Died()
			if _, err := w.cri.Create(w.ctx, w.sandbox, w.pod, c); err == nil {
				w.Fatal("the daemon outlived it")
			}
			select {
			case <-died:
			case <-w.ctx.Done():
				w.Fatal("the daemon is not killed")
			}
			w.Options.Env = nil
			if err := w.Kill9(); err != nil { // it is dead; this collects it
				w.Fatal(err)
			}
			if err := w.Start(w.ctx); err != nil {
				w.Fatal(err)
			}
			if _, err := w.cri.Run(w.ctx, w.sandbox, w.pod, c); err != nil {
				w.Fatal(err)
			}
		}},
	},
}

var restarts = group{
	name: "restarts",
	incidents: []incident{
		{name: "pod that is gone, asked after a restart", cause: "exit.code", evidence: []string{"exited with 7"}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", "exit 7")
			w.removePods()
			if _, err := w.Restart(w.ctx); err != nil {
				w.Fatal(err)
			}
		}},
	},
}
