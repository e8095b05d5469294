package incidents

import (
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// limits are what programs run into that the kernel, the image or the pod bounds.
var limits = group{
	name: "bounds that programs meet",
	host: true,
	incidents: []incident{
		{name: "shared memory that is full", cause: "process.disk", evidence: []string{"SIGBUS", "/dev/shm"}, inject: func(w *world) {
			w.ends(nil, "/bin/payload", "bus", "/dev/shm/segment", "100")
		}},
		{name: "file above the limit of sizes", cause: "process.filesize", evidence: []string{"ile too large"}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", "ulimit -f 1; exec dd if=/dev/zero of=/tmp/big bs=1M count=1")
		}},
		{name: "processor time above its limit", cause: "killed.kernel", evidence: []string{"of CPU time", "ulimit -t"}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", "ulimit -t 1; while :; do :; done")
		}},
		{name: "volume in memory without room for another file", cause: "process.disk", evidence: []string{"o space left on device", "no more files"}, inject: func(w *world) {
			volume := w.tmpfs("inodes", "size=1m,nr_inodes=3")
			w.ends(func(c *cri.ContainerConfig) { c.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/data"}} },
				"/bin/sh", "-c", "for i in 1 2 3 4 5; do echo >/data/$i || exit 1; done")
		}},
		{name: "device that the pod was not given", cause: "device.denied", evidence: []string{"not permitted", "c 1:11"}, inject: func(w *world) {
			w.ends(func(c *cri.ContainerConfig) {
				c.Mounts = []*cri.Mount{{HostPath: "/dev/kmsg", ContainerPath: "/dev/kmsg"}}
			}, "/bin/sh", "-c", "exec cat /dev/kmsg")
		}},
		{name: "program that wants to become root and may not", cause: "process.suid", evidence: []string{"no new privileges"}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", `echo 'sudo: The "no new privileges" flag is set, which prevents sudo from running as root.' >&2; exit 1`)
		}},
		{name: "program that the OOM killer ended in a session", cause: "oom.child", evidence: []string{"killed"}, passing: true, inject: func(w *world) {
			id, _ := w.container(memory(24), "/bin/sleep", "1000")
			w.cri.Exec(w.ctx, id, 60, "/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
		}},
		{name: "password that a database does not take", cause: "process.credentials", evidence: []string{"Access denied for user"}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", `echo "ERROR 1045 (28000): Access denied for user 'shop'@'10.0.0.7' (using password: YES)" >&2; exit 1`)
		}},
		{name: "certificate that the program takes for one of tomorrow", cause: "process.clock", evidence: []string{"not yet valid"}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", `echo 'dial: x509: certificate has expired or is not yet valid: current time 2020-01-01T00:00:00Z is before 2024-01-01T00:00:00Z' >&2; exit 1`)
		}},
		{name: "trouble of an hour ago, and another now", cause: "exit.code", evidence: []string{"no key 'port'"}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", `echo 'connection refused, trying again'; echo connected; echo "config: no key 'port' in section [http]" >&2; exit 1`)
		}},
		{name: "heap of a virtual machine that is full", cause: "process.memory", evidence: []string{"OutOfMemoryError"}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", `echo 'Exception in thread "main" java.lang.OutOfMemoryError: Java heap space' >&2; exit 3`)
		}},
		{name: "address that the pod does not have", cause: "process.noaddress", evidence: []string{"annot assign requested address"}, inject: func(w *world) {
			w.ends(nil, "/bin/httpd", "-f", "-p", "203.0.113.7:8080", "-h", "/tmp")
		}},
		{name: "instruction that the processor does not have", cause: "crash.signal", evidence: []string{"SIGILL"}, inject: func(w *world) {
			w.ends(nil, "/bin/payload", "illegal")
		}},
		{name: "container that kubelet stops and starts again", cause: "stop.restarted", evidence: []string{"attempt 1"}, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done")
			w.logged(id, "ready")
			if err := w.cri.Stop(w.ctx, id, 30); err != nil {
				w.Fatal(err)
			}
			w.container(func(c *cri.ContainerConfig) { c.Metadata.Attempt = 1 }, "/bin/sleep", "1000")
		}},
		{name: "command before the stop that does not end", cause: "stop.hook", evidence: []string{"preStop"}, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done")
			w.logged(id, "ready")
			if _, err := w.cri.Exec(w.ctx, id, 2, "/bin/sleep", "1000"); err == nil {
				w.Fatal("the command ended")
			}
			if err := w.cri.Stop(w.ctx, id, 2); err != nil {
				w.Fatal(err)
			}
		}},
		{name: "probe of a program that is not in the image", cause: "probe.failed", evidence: []string{"with 127"}, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sleep", "1000")
			for range 3 {
				w.cri.Exec(w.ctx, id, 5, "/bin/grpc_health_probe", "-addr=:8080")
			}
		}},
		{name: "main thread in the kernel's hands", cause: "process.stuck", evidence: []string{"uninterruptible"}, passing: true, inject: func(w *world) {
			w.container(nil, "/bin/payload", "vfork")
		}},
		{name: "monitor that is stopped when a container shall end", cause: "monitor.stopped", evidence: []string{"state T"}, passing: true, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sleep", "1000")
			_, monitor := w.init(id)
			if err := unix.Kill(monitor, unix.SIGSTOP); err != nil {
				w.Fatal(err)
			}
			done := make(chan struct{})
			go func() { defer close(done); w.cri.Stop(w.ctx, id, 1) }()
			w.undo = append(w.undo, func() { unix.Kill(monitor, unix.SIGCONT); <-done })
		}},
		{name: "shell that does not hand the stop signal on", cause: "stop.killed", evidence: []string{"PID 1 has no handler"}, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sh", "-c", "echo ready; sleep 1000 & wait")
			w.logged(id, "ready")
			if err := w.cri.Stop(w.ctx, id, 4); err != nil {
				w.Fatal(err)
			}
		}},
	},
}
