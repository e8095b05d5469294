package incidents

import (
	"os"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// attempts runs a container to its end again and again, as kubelet does.
func (w *world) attempts(n int, command ...string) {
	w.Helper()
	for i := range n {
		w.ends(func(c *cri.ContainerConfig) { c.Metadata.Attempt = uint32(i) }, command...)
	}
}

// user runs a container as another user than root.
func user(change func(*cri.ContainerConfig)) func(*cri.ContainerConfig) {
	return func(c *cri.ContainerConfig) {
		c.Linux.SecurityContext.RunAsUser = &cri.Int64Value{Value: 1000}
		if change != nil {
			change(c)
		}
	}
}

// lives are what befalls programs that run: from themselves, their neighbours and the node.
var lives = group{
	name: "lives of programs",
	incidents: []incident{
		{name: "program that is done at once and is started again", cause: "exit.restarted", evidence: []string{"exited with 0", "3 times"}, inject: func(w *world) {
			w.attempts(3, "/bin/sh", "-c", "echo done")
		}},
		{name: "init container that fails again and again", cause: "exit.code", evidence: []string{"exited with 4", "no migration", "3 times one after the other"}, inject: func(w *world) {
			w.attempts(3, "/bin/sh", "-c", "echo 'no migration of this name' >&2; exit 4")
		}},
		{name: "sidecar that kills a process of its pod", cause: "killed.outside", evidence: []string{"SIGKILL", "sidecar"}, container: "c", inject: func(w *world) {
			w.pod.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
			shared := func(c *cri.ContainerConfig) {
				c.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_POD}
			}
			id, _ := w.container(shared, "/bin/sleep", "7777")
			sidecar := harness.Container(w.pod, "sidecar", w.image, "/bin/sh", "-c", "kill -9 $(busybox pidof sleep)")
			shared(sidecar)
			harness.Must(w.cri.Run(w.ctx, w.sandbox, w.pod, sidecar))(w)
			harness.Must(w.cri.WaitExit(w.ctx, id))(w)
		}},
		{name: "probes that fail while the CPU limit delays the start", cause: "cpu.throttled", evidence: []string{"of its periods"}, inject: func(w *world) {
			id, _ := w.container(func(c *cri.ContainerConfig) {
				c.Linux.Resources.CpuPeriod, c.Linux.Resources.CpuQuota = 100_000, 5_000
			}, "/bin/sh", "-c", "while :; do :; done")
			w.probe(id, 2)
		}},
		{name: "liveness probe for which a deaf program is killed", cause: "probe.failed", evidence: []string{"was stopped", "3 commands"}, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
			w.logged(id, "ready")
			w.probe(id, 3)
			if err := w.cri.Stop(w.ctx, id, 1); err != nil {
				w.Fatal(err)
			}
		}},
		{name: "files in memory that fill the memory limit", cause: "oom.killed", evidence: []string{"memory was reached", "tmpfs"}, inject: func(w *world) {
			volume := w.tmpfs("memory", "size=100m")
			w.ends(func(c *cri.ContainerConfig) {
				memory(24)(c)
				c.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/cache"}}
			}, "/bin/dd", "if=/dev/zero", "of=/cache/big", "bs=1M", "count=80")
		}},
		{name: "volume that belongs to another user", cause: "process.denied", evidence: []string{"ermission denied"}, inject: func(w *world) {
			volume := w.tmpfs("foreign", "size=64k,mode=0755")
			w.ends(user(func(c *cri.ContainerConfig) { c.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/data"}} }), "/bin/touch", "/data/state")
		}},
		{name: "port below 1024 for a user", cause: "capability.denied", evidence: []string{"NET_BIND_SERVICE"}, inject: func(w *world) {
			w.ends(user(nil), "/bin/httpd", "-f", "-p", "80", "-h", "/tmp")
		}},
		{name: "script that calls a tool the image does not have", cause: "process.missing", evidence: []string{"psql"}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", "psql --version")
		}},
		{name: "resolver that does not answer in the pod", cause: "process.dns", evidence: []string{"shop.example"}, inject: func(w *world) {
			w.pod.DnsConfig = &cri.DNSConfig{Servers: []string{"127.0.0.1"}}
			w.ends(nil, "/bin/ping", "-c", "1", "shop.example")
		}},
		{name: "limit of watches on files", cause: "process.watches", evidence: []string{"inotify"}, inject: func(w *world) {
			w.watchless()
		}},
		{name: "log directory that a cleaner has removed", cause: "log.missing", evidence: []string{"is gone"}, passing: true, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sh", "-c", "echo ready; exec sleep 1000")
			w.logged(id, "ready")
			if err := os.RemoveAll(w.pod.LogDirectory); err != nil {
				w.Fatal(err)
			}
		}},
		{name: "log that cannot be rotated", cause: "log.invalid", evidence: []string{"ReopenContainerLog failed"}, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sh", "-c", "echo ready; exec sleep 1000")
			w.logged(id, "ready")
			path := harness.Must(w.cri.Status(w.ctx, id))(w).LogPath
			if err := os.Rename(path, path+".1"); err != nil {
				w.Fatal(err)
			}
			if err := os.Mkdir(path, 0o755); err != nil { // what should be a file
				w.Fatal(err)
			}
			if _, err := w.cri.ReopenContainerLog(w.ctx, &cri.ReopenContainerLogRequest{ContainerId: id}); err == nil {
				w.Fatal("the log was opened anew")
			}
		}},
		{name: "file system behind a volume that does not answer", cause: "process.stuck", evidence: []string{"FUSE", "request_wait_answer"}, passing: true, inject: func(w *world) {
			w.container(func(c *cri.ContainerConfig) {
				c.Mounts = []*cri.Mount{{HostPath: w.silentFUSE(), ContainerPath: "/data"}}
			}, "/bin/sh", "-c", "exec cat /data/file")
		}},
		{name: "CPU that the node does not have", cause: "cgroup.invalid", evidence: []string{"cpuset.cpus"}, inject: func(w *world) {
			w.refused(func(c *cri.ContainerConfig) { c.Linux.Resources.CpusetCpus = "1000" }, "/bin/true")
		}},
		{name: "memory limit in which no process can begin", cause: "memory.invalid", evidence: []string{"below runtime minimum"}, inject: func(w *world) {
			w.refused(func(c *cri.ContainerConfig) { c.Linux.Resources.MemoryLimitInBytes = 64 << 10 }, "/bin/true")
		}},
		{name: "user namespace of ids that the node cannot give", cause: "userns.invalid", evidence: []string{"userns_options"}, inject: func(w *world) {
			ids := []*cri.IDMapping{{HostId: 1<<32 - 2, ContainerId: 0, Length: 65536}}
			w.pod.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: ids, Gids: ids}
			w.noPod()
		}},
	},
}

// fullLayer has room for the image and little more: what a container writes ends there.
var fullLayer = group{
	name:    "full layer",
	options: func(t *testing.T, dir string) harness.Options { return smallStore(t, dir, "size=48m") },
	incidents: []incident{
		{name: "disk under the writable layer full", cause: "process.disk", evidence: []string{"o space left on device", "its writable layer has"}, inject: func(w *world) {
			w.ends(nil, "/bin/dd", "if=/dev/zero", "of=/tmp/big", "bs=1M", "count=64")
		}},
	},
}
