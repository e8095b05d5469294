package incidents

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// file writes a file into the group's directory.
func (w *world) file(name string, mode os.FileMode, content []byte) (path string) {
	w.Helper()
	path = filepath.Join(w.dir, name)
	if err := os.WriteFile(path, content, mode); err != nil {
		w.Fatal(err)
	}
	return path
}

// foreign is the head of a program for a machine that this one is not.
func foreign() []byte {
	machine := elf.EM_S390
	if runtime.GOARCH == "s390x" {
		machine = elf.EM_X86_64
	}
	b := make([]byte, 4096)
	copy(b, elf.ELFMAG)
	b[elf.EI_CLASS], b[elf.EI_DATA], b[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	binary.LittleEndian.PutUint16(b[16:], uint16(elf.ET_EXEC))
	binary.LittleEndian.PutUint16(b[18:], uint16(machine))
	return b
}

// configs are what pods ask for and cannot have, and what their programs find.
var configs = group{
	name: "what pods ask for",
	incidents: []incident{
		{name: "program for another architecture", cause: "process.format", evidence: []string{"exec format error"}, inject: func(w *world) {
			w.refused(bind(w.file("foreign", 0o755, foreign()), "/bin/foreign"), "/bin/foreign")
		}},
		{name: "script with the line ends of Windows", cause: "process.interpreter", evidence: []string{"interpreter"}, inject: func(w *world) {
			w.refused(bind(w.file("entrypoint.sh", 0o755, []byte("#!/bin/sh\r\nexec sleep 100\r\n")), "/entrypoint.sh"), "/entrypoint.sh")
		}},
		{name: "working directory that is a file", cause: "workdir.invalid", evidence: []string{"/etc/passwd"}, inject: func(w *world) {
			w.refused(func(c *cri.ContainerConfig) { c.WorkingDir = "/etc/passwd" }, "/bin/true")
		}},
		{name: "device that the node does not have", cause: "device.missing", evidence: []string{"/dev/no-such-gpu"}, inject: func(w *world) {
			w.refused(func(c *cri.ContainerConfig) {
				c.Devices = []*cri.Device{{HostPath: "/dev/no-such-gpu", ContainerPath: "/dev/gpu", Permissions: "rw"}}
			}, "/bin/true")
		}},
		{name: "sysctl that the kernel does not have", cause: "sysctl.missing", evidence: []string{"net.ipv4.no_such_thing"}, inject: func(w *world) {
			w.pod.Linux.Sysctls = map[string]string{"net.ipv4.no_such_thing": "1"}
			w.noPod()
		}},
		{name: "sysctl of the whole node", cause: "sysctl.invalid", evidence: []string{"kernel.panic"}, inject: func(w *world) {
			w.pod.Linux.Sysctls = map[string]string{"kernel.panic": "1"}
			w.noPod()
		}},
		{name: "host port that another pod has", cause: "network.address", evidence: []string{"host port 18080/TCP", "test/first"}, inject: func(w *world) {
			ports := []*cri.PortMapping{{HostPort: 18080, ContainerPort: 80, HostIp: "127.0.0.1"}}
			first := w.Pod("first")
			first.PortMappings, w.pod.PortMappings = ports, ports
			harness.Must(w.cri.RunPod(w.ctx, first))(w)
			w.noPod()
		}},
		{name: "runtime class that the node does not have", cause: "handler.missing", evidence: []string{"no-such-handler"}, inject: func(w *world) {
			if _, err := w.cri.RunPodSandbox(w.ctx, &cri.RunPodSandboxRequest{Config: w.pod, RuntimeHandler: "no-such-handler"}); err == nil {
				w.Fatal("the sandbox was made")
			}
		}},
		{name: "registry whose certificate has expired", cause: "image.tls", evidence: []string{"x509"}, inject: func(w *world) {
			s := certified(w, time.Now().Add(-25*time.Hour), time.Now().Add(-24*time.Hour))
			w.undo = append(w.undo, s.Close)
			w.fails(s.Listener.Addr().String() + "/test/box:1")
		}},
		{name: "volume that is full", cause: "process.disk", evidence: []string{"o space left on device"}, inject: func(w *world) {
			volume := filepath.Join(w.dir, "volume")
			if err := os.Mkdir(volume, 0o777); err != nil {
				w.Fatal(err)
			}
			if err := unix.Mount("tmpfs", volume, "tmpfs", 0, "size=64k"); err != nil {
				w.Fatal(err)
			}
			w.undo = append(w.undo, func() { unix.Unmount(volume, unix.MNT_DETACH) })
			w.ends(func(c *cri.ContainerConfig) {
				c.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/data"}}
			}, "/bin/dd", "if=/dev/zero", "of=/data/big", "bs=1M", "count=1")
		}},
		{name: "volume that is read-only", cause: "process.readonly", evidence: []string{"ead-only file system"}, inject: func(w *world) {
			w.ends(bind(w.dir, "/data"), "/bin/touch", "/data/state")
		}},
		{name: "name that the pod cannot resolve", cause: "process.dns", evidence: []string{"no-such-service"}, inject: func(w *world) {
			w.ends(nil, "/bin/ping", "-c", "1", "no-such-service.invalid")
		}},
		{name: "service that refuses the connection", cause: "process.tcp", evidence: []string{"onnection refused"}, inject: func(w *world) {
			w.ends(nil, "/bin/wget", "-O", "/dev/null", "http://127.0.0.1:9/")
		}},
		{name: "limit of open files", cause: "process.files", evidence: []string{"oo many open files"}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", "ulimit -n 3; exec cat /etc/passwd")
		}},
		{name: "program that crashes", cause: "crash.signal", evidence: []string{"SIGSEGV"}, inject: func(w *world) {
			w.ends(nil, "/bin/payload", "fault")
		}},
		{name: "program that gives up with an exception", cause: "process.panic", evidence: []string{"panic: "}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", "echo 'panic: runtime error: index out of range [3] with length 3' >&2; exit 2")
		}},
		{name: "PID 1 that waits for none of its children", cause: "process.zombies", evidence: []string{"children"}, passing: true, inject: func(w *world) {
			w.container(nil, "/bin/sh", "-c", "for i in $(seq 60); do sh -c 'sleep 5 &'; done; exec sleep 1000")
		}},
		{name: "SIGTERM from outside", cause: "exit.signal", evidence: []string{"SIGTERM"}, inject: func(w *world) {
			id, _ := w.container(nil, "/bin/sh", "-c", "trap 'exit 143' TERM; echo ready; while :; do sleep 0.1; done")
			w.logged(id, "ready")
			pid, _ := w.init(id)
			if err := unix.Kill(pid, unix.SIGTERM); err != nil {
				w.Fatal(err)
			}
			harness.Must(w.cri.WaitExit(w.ctx, id))(w)
		}},
		{name: "neighbour that takes the CPU", cause: "cpu.pressure", evidence: []string{"waited for a CPU"}, passing: true, inject: func(w *world) {
			spin := []string{"/bin/sh", "-c", "while :; do :; done"}
			share := func(shares int64) func(*cri.ContainerConfig) {
				return func(c *cri.ContainerConfig) {
					c.Linux.Resources.CpuShares, c.Linux.Resources.CpusetCpus = shares, firstCPU(w)
				}
			}
			w.container(share(16), spin...) // before the other: starved, it could not even be made
			neighbour := harness.Container(w.pod, "neighbour", w.image, spin...)
			share(4096)(neighbour)
			harness.Must(w.cri.Run(w.ctx, w.sandbox, w.pod, neighbour))(w)
		}, container: "c"},
	},
}

// logged waits until the container has written something.
func (w *world) logged(id, words string) {
	w.Helper()
	path := harness.Must(w.cri.Status(w.ctx, id))(w).LogPath
	for deadline := time.Now().Add(harness.Scale(30 * time.Second)); ; time.Sleep(50 * time.Millisecond) {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), words) {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("the container does not write %q", words)
		}
	}
}

// firstCPU is one that this process may use.
func firstCPU(t testing.TB) string {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	for i := range 1024 {
		if set.IsSet(i) {
			return fmt.Sprint(i)
		}
	}
	t.Fatal("no CPU")
	return ""
}

// limited has a bound on tasks, and a policy that refuses every image but the one.
var limited = group{
	name: "bounds and policy",
	options: func(*testing.T, string) harness.Options {
		return harness.Options{Config: "[runtime.defaults]\npids_limit = 12\n",
			Policy: fmt.Sprintf(`{"default": [{"type": "reject"}], "transports": {"docker": {%q: [{"type": "insecureAcceptAnything"}]}}}`, hub.Addr)}
	},
	incidents: []incident{
		{name: "limit of tasks", cause: "pids.limit", evidence: []string{"limit of tasks"}, inject: func(w *world) {
			w.ends(nil, "/bin/sh", "-c", "for i in $(seq 30); do sleep 100 & done; exit 1")
		}},
		{name: "image that the signature policy refuses", cause: "image.signature", evidence: []string{"rejected by policy"}, inject: func(w *world) {
			w.fails(w.proxy.Addr + "/test/box:1")
		}},
	},
}

// smallNet comes to have an address for one pod.
var smallNet = group{
	name: "small network",
	incidents: []incident{
		{name: "addresses of the node used up", cause: "network.exhausted", evidence: []string{"no IP addresses available"}, inject: func(w *world) {
			small := strings.TrimSuffix(w.Subnet, "/24") + "/30" // the other address is the gateway's
			confs := harness.Must(filepath.Glob(filepath.Join(w.NetDir(), "*.conflist")))(w)
			if len(confs) != 1 {
				w.Fatalf("configurations: %v", confs)
			}
			if err := os.WriteFile(confs[0], []byte(strings.ReplaceAll(w.Bridge(), w.Subnet, small)), 0o644); err != nil {
				w.Fatal(err)
			}
			harness.Must(w.Restart(w.ctx))(w)
			harness.Must(w.cri.RunPod(w.ctx, w.Pod("first")))(w)
			w.noPod()
		}},
	},
}

// quietNet has a plugin that answers without an address, and hangs when it is to let go.
var quietNet = group{
	name: "quiet plugin",
	options: func(t *testing.T, dir string) harness.Options {
		plugins := filepath.Join(dir, "cni")
		if err := os.Mkdir(plugins, 0o755); err != nil {
			t.Fatal(err)
		}
		script(t, filepath.Join(plugins, "quiet"), fmt.Sprintf(`case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}';;
ADD) if [ -e %[1]s/empty ]; then echo '{"cniVersion":"1.0.0","ips":[]}'; else echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.9.9/24"}]}'; fi;;
DEL) [ ! -e %[1]s/hang ] || sleep $(cat %[1]s/hang);;
esac`, dir))
		return harness.Options{CNIBin: []string{plugins}, CNI: `{"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "quiet"}]}`}
	},
	incidents: []incident{
		{name: "CNI plugin that gives no address", cause: "network.failed", evidence: []string{"no address"}, inject: func(w *world) {
			w.flag("empty", "")
			w.noPod()
		}},
		{name: "CNI plugin that hangs when a pod is removed", cause: "network.hanging", evidence: []string{"StopPodSandbox", "DEL", "going on"}, passing: true, inject: func(w *world) {
			w.run()
			remove := w.flag("hang", fmt.Sprint(4*delay.Seconds()))
			done := make(chan struct{})
			go func() { // ends with the plugin
				defer close(done)
				w.cri.StopPod(w.ctx, w.sandbox)
			}()
			w.undo = append(w.undo, func() { remove(); <-done })
		}},
	},
}

// damaged has an image store from which a layer vanishes.
var damaged = group{
	name: "damaged store",
	incidents: []incident{
		{name: "layer that vanished from the image store", cause: "rootfs.missing", evidence: []string{"image.rootfs"}, inject: func(w *world) {
			w.run()
			layers := harness.Must(filepath.Glob(filepath.Join(w.Dir, "data", "storage", "overlay", "*", "diff", "bin", "payload")))(w)
			if len(layers) != 1 {
				w.Fatalf("layers with the program: %v", layers)
			}
			diff := filepath.Dir(filepath.Dir(layers[0]))
			if err := os.Rename(diff, diff+".away"); err != nil {
				w.Fatal(err)
			}
			w.undo = append(w.undo, func() {
				if err := os.Rename(diff+".away", diff); err != nil {
					w.Error(err)
				}
			})
			c := harness.Container(w.pod, "c", w.image, "/bin/true")
			ctx, cancel := context.WithTimeout(w.ctx, harness.Scale(time.Minute))
			defer cancel()
			if id, err := w.cri.Run(ctx, w.sandbox, w.pod, c); err == nil {
				w.Fatalf("%s was created", id)
			}
		}},
	},
}
