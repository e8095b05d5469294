package incidents

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// requests are what pods ask for that this node refuses, and why it does.
var requests = group{
	name: "requests that a node cannot meet",
	options: func(t *testing.T, dir string) harness.Options {
		plugins := filepath.Join(dir, "runtimes")
		if err := os.Mkdir(plugins, 0o755); err != nil {
			t.Fatal(err)
		}
		script(t, filepath.Join(plugins, "crash"), `log=; for word; do [ "$last" != --log ] || log=$word; last=$word; done
case " $* " in *" create "*) echo '{"level":"error","msg":"cannot reach the hypervisor"}' >>$log; exit 1;; *" features "*|*" --version "*) exit 1;; esac`)
		return harness.Options{Config: fmt.Sprintf("[runtime.handlers.crash]\npath = %q\n", filepath.Join(plugins, "crash"))}
	},
	incidents: []incident{
		{name: "seccomp profile that is no JSON", cause: "seccomp.invalid", evidence: []string{"profile.json"}, inject: func(w *world) {
			path := w.file("profile.json", 0o644, []byte("defaultAction: SCMP_ACT_ALLOW\n"))
			w.refused(func(c *cri.ContainerConfig) {
				c.Linux.SecurityContext.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: path}
			}, "/bin/true")
		}},
		{name: "CDI device that no vendor describes", cause: "device.missing", evidence: []string{"vendor.test/gpu=one"}, inject: func(w *world) {
			w.refused(func(c *cri.ContainerConfig) { c.CDIDevices = []*cri.CDIDevice{{Name: "vendor.test/gpu=one"}} }, "/bin/true")
		}},
		{name: "capability of a wrong name", cause: "capability.invalid", evidence: []string{"NET_ADMINISTRATOR"}, inject: func(w *world) {
			w.refused(func(c *cri.ContainerConfig) {
				c.Linux.SecurityContext.Capabilities = &cri.Capability{AddCapabilities: []string{"NET_ADMINISTRATOR"}}
			}, "/bin/true")
		}},
		{name: "directory mounted where the image has a file", cause: "mount.invalid", evidence: []string{"/etc/passwd"}, inject: func(w *world) {
			w.refused(bind(w.folder("subpath"), "/etc/passwd"), "/bin/true")
		}},
		{name: "file mounted where the image has a directory", cause: "mount.invalid", evidence: []string{"/bin"}, inject: func(w *world) {
			w.refused(bind(w.file("config.yaml", 0o644, nil), "/bin"), "/bin/true")
		}},
		{name: "mount to be shared from a place that is not", cause: "mount.invalid", evidence: []string{"shared"}, inject: func(w *world) {
			volume := w.tmpfs("private", "size=64k")
			if err := unix.Mount("", volume, "", unix.MS_PRIVATE, ""); err != nil {
				w.Fatal(err)
			}
			w.refused(func(c *cri.ContainerConfig) {
				c.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/data", Propagation: cri.MountPropagation_PROPAGATION_BIDIRECTIONAL}}
			}, "/bin/true")
		}},
		{name: "command that is a directory", cause: "process.invalid", evidence: []string{"/etc"}, inject: func(w *world) { w.refused(nil, "/etc") }},
		{name: "log directory that is a file", cause: "log.invalid", evidence: []string{"logs"}, inject: func(w *world) {
			w.run()
			if err := os.RemoveAll(w.pod.LogDirectory); err != nil {
				w.Fatal(err)
			}
			if err := os.WriteFile(w.pod.LogDirectory, nil, 0o644); err != nil {
				w.Fatal(err)
			}
			w.refused(nil, "/bin/true")
		}},
		{name: "external runtime that crashes", cause: "runtime.failed", evidence: []string{"hypervisor"}, inject: func(w *world) {
			r, err := w.cri.RunPodSandbox(w.ctx, &cri.RunPodSandboxRequest{Config: w.pod, RuntimeHandler: "crash"})
			if err != nil {
				w.Fatal(err)
			}
			w.sandbox = r.PodSandboxId
			w.refused(nil, "/bin/true")
		}},
		{name: "sysctl of a value that the kernel does not take", cause: "sysctl.invalid", evidence: []string{"ping_group_range"}, inject: func(w *world) {
			w.pod.Linux.Sysctls = map[string]string{"net.ipv4.ping_group_range": "everybody"}
			w.noPod()
		}},
	},
}
