package e2e

import (
	"encoding/binary"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// blind is the configuration of a daemon that loads no eBPF program.
const blind = "[ebpf]\ndisabled = true\n"

// hungry is a container with a memory limit in MiB; 0 for none.
func (n *node) hungry(p *runtime.PodSandboxConfig, name string, mib int64, command ...string) *runtime.ContainerConfig {
	c := harness.Container(p, name, n.image, command...)
	c.Linux.Resources.MemoryLimitInBytes = mib << 20
	return c
}

// kills asks the daemon for the OOM kills on a container's record, latest first.
func (n *node) kills(id string) (found []pod.OOMKill) {
	n.Helper()
	raw := harness.Must(n.Get("/v1/oom?pod=" + url.QueryEscape(id)))(n)
	if err := json.Unmarshal([]byte(raw), &found); err != nil {
		n.Fatal(err)
	}
	return found
}

// waitKills waits until n kills are on the container's record.
func (n *node) waitKills(id string, want int) []pod.OOMKill {
	n.Helper()
	deadline := time.Now().Add(harness.Scale(30 * time.Second))
	for {
		found := n.kills(id)
		if len(found) >= want {
			return found
		}
		if time.Now().After(deadline) {
			n.Fatalf("%d OOM kills on record, want %d", len(found), want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// oomCase is one line of the matrix. play runs the container to its end, or leaves it
// running and says so.
type oomCase struct {
	name string
	// needs prepares what the case cannot be without, or says what is missing; unlike
	// tells that the limit is not the ordinary one.
	needs  func(t *testing.T) (missing string)
	unlike bool
	play   func(t *testing.T, n *node, p *runtime.PodSandboxConfig, sandbox string) (id string)
	reason string
	code   int32
	// says is part of the message; level, init and exec are of the latest kill.
	says  string
	level string
	init  bool
	exec  bool
}

func (n *node) exited(id string) {
	n.Helper()
	harness.Must(n.cri.WaitExit(n.ctx, id))(n)
}

// heldOrExited waits until the hog has its memory, or has ended (false).
func (n *node) heldOrExited(id string, p *runtime.PodSandboxConfig, c *runtime.ContainerConfig) bool {
	n.Helper()
	for deadline := time.Now().Add(harness.Scale(30 * time.Second)); ; time.Sleep(10 * time.Millisecond) {
		if raw, _ := os.ReadFile(harness.LogPath(p, c)); strings.Contains(string(raw), "held") {
			return true
		}
		if harness.Must(n.cri.Status(n.ctx, id))(n).State == runtime.ContainerState_CONTAINER_EXITED {
			return false
		}
		if time.Now().After(deadline) {
			n.Fatal("the hog neither holds its memory nor ends")
		}
	}
}

const hogAndSay = "/bin/payload hog 64; echo ready; "

// afterChild runs a shell whose child is OOM-killed, then does something to it.
func afterChild(script string, then func(n *node, id string)) func(*testing.T, *node, *runtime.PodSandboxConfig, string) string {
	return func(t *testing.T, n *node, p *runtime.PodSandboxConfig, sandbox string) string {
		c := n.hungry(p, "c", 32, "/bin/sh", "-c", script)
		id := harness.Must(n.cri.Run(n.ctx, sandbox, p, c))(t)
		if then != nil {
			waitLog(t, p, c, "ready")
			then(n, id)
		}
		n.exited(id)
		return id
	}
}

func killInit(n *node, id string) { n.must(syscall.Kill(initPID(n, n, id), syscall.SIGKILL)) }

var oomMatrix = []oomCase{
	{name: "1 PID 1 exceeds its limit", reason: "OOMKilled", code: 137, says: "the container's limit of 32Mi for memory was reached", level: "container", init: true,
		play: func(t *testing.T, n *node, p *runtime.PodSandboxConfig, sandbox string) string {
			id := harness.Must(n.cri.Run(n.ctx, sandbox, p, n.hungry(p, "c", 32, "/bin/payload", "hog", "64")))(t)
			n.exited(id)
			return id
		}},
	{name: "2 child killed, PID 1 ends well", reason: "Completed", says: `"payload"`, level: "container", play: afterChild("/bin/payload hog 64; exit 0", nil)},
	{name: "3 child killed, later SIGTERM", reason: "Error", code: 143, says: "StopContainer", level: "container",
		play: afterChild("trap 'exit 143' TERM; "+hogAndSay+"while :; do sleep 0.1; done", func(n *node, id string) { n.must(n.cri.Stop(n.ctx, id, 60)) })},
	{name: "4 child killed, PID 1 gives up", reason: "Error", code: 1, says: "before PID 1 exited with 1", level: "container", play: afterChild("/bin/payload hog 64; exit 1", nil)},
	{name: "4 child killed, a shell passes it on", reason: "OOMKilled", code: 137, says: "before PID 1 exited with 137, as a shell does", level: "container",
		play: afterChild("/bin/payload hog 64; exit $?", nil)},
	{name: "5 exec'ed process killed", reason: "Completed", says: `"payload"`, level: "container", exec: true,
		play: func(t *testing.T, n *node, p *runtime.PodSandboxConfig, sandbox string) string {
			id := harness.Must(n.cri.Run(n.ctx, sandbox, p, n.hungry(p, "c", 32, "/bin/payload", "wait")))(t)
			r := harness.Must(n.cri.Exec(n.ctx, id, 60, "/bin/payload", "hog", "64"))(t)
			if s := harness.Must(n.cri.Status(n.ctx, id))(t); r.ExitCode != 137 || s.State != runtime.ContainerState_CONTAINER_RUNNING || s.Reason != "" {
				t.Errorf("exec ended with %d; the container is %v, reason %q", r.ExitCode, s.State, s.Reason)
			}
			n.must(n.cri.Stop(n.ctx, id, 60))
			return id
		}},
	{name: "6 group kill", needs: groupKill, reason: "OOMKilled", code: 137, says: "killed together", level: "container", init: true,
		play: func(t *testing.T, n *node, p *runtime.PodSandboxConfig, sandbox string) string {
			c := n.hungry(p, "c", 32, "/bin/sh", "-c", hogAndSay+"sleep 1000")
			c.Linux.Resources.Unified = map[string]string{"memory.oom.group": "1"}
			id := harness.Must(n.cri.Run(n.ctx, sandbox, p, c))(t)
			n.exited(id)
			return id
		}},
	{name: "9 kill -9 after a child's kill", reason: "Error", code: 137, says: "SIGKILL", level: "container", play: afterChild(hogAndSay+"sleep 1000; true", killInit)},
	{name: "8 the node runs out of memory", needs: ownMachine, unlike: true, reason: "OOMKilled", code: 137, says: "the node ran out of memory", level: "global", init: true,
		play: func(t *testing.T, n *node, p *runtime.PodSandboxConfig, sandbox string) string {
			var info unix.Sysinfo_t
			n.must(unix.Sysinfo(&info))
			c := n.hungry(p, "c", 0, "/bin/payload", "hog", strconv.FormatUint(info.Totalram*uint64(info.Unit)>>20, 10))
			c.Linux.Resources.OomScoreAdj = 1000
			id := harness.Must(n.cri.Run(n.ctx, sandbox, p, c))(t)
			n.exited(id)
			return id
		}},
	{name: "11 swap limit", needs: swap, unlike: true, reason: "OOMKilled", code: 137, says: "swap", level: "container", init: true,
		play: func(t *testing.T, n *node, p *runtime.PodSandboxConfig, sandbox string) string {
			c := n.hungry(p, "c", 32, "/bin/payload", "hog", "96")
			c.Linux.Resources.MemorySwapLimitInBytes = 64 << 20
			id := harness.Must(n.cri.Run(n.ctx, sandbox, p, c))(t)
			n.exited(id)
			return id
		}},
}

// groupKill: the file is in every cgroup of the memory controller's second version but the root.
func groupKill(t *testing.T) string {
	found, err := filepath.Glob("/sys/fs/cgroup/*/memory.oom.group")
	if err == nil && len(found) > 0 {
		return ""
	}
	return "memory.oom.group, which is of the memory controller of cgroup v2"
}

func ownMachine(*testing.T) string {
	if harness.Disposable() {
		return ""
	}
	return "a machine that may run out of memory: " + harness.DisposableEnv + " says that this one may"
}

// swap has some: the machine's, or on a machine of the tests' own a file's until the
// test ends. Its header is that of mkswap (union swap_header, include/linux/swap.h).
func swap(t *testing.T) string {
	raw, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return "swap in the kernel"
	}
	if strings.Count(string(raw), "\n") > 1 {
		return ""
	}
	if missing := ownMachine(t); missing != "" {
		return "swap, or " + missing
	}
	const size = 128 << 20
	file := filepath.Join(t.TempDir(), "swap")
	pages := make([]byte, size)
	page := os.Getpagesize()
	binary.NativeEndian.PutUint32(pages[1024:], 1)
	binary.NativeEndian.PutUint32(pages[1028:], uint32(size/page-1))
	copy(pages[page-10:], "SWAPSPACE2")
	if err := os.WriteFile(file, pages, 0o600); err != nil {
		t.Fatal(err)
	}
	path := harness.Must(unix.BytePtrFromString(file))(t)
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(path)), 0, 0); errno != 0 {
		if errno == unix.ENOSYS {
			return "swap in the kernel"
		}
		t.Fatalf("swapon %s: %v", file, errno)
	}
	t.Cleanup(func() {
		if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(path)), 0, 0); errno != 0 {
			t.Errorf("swapoff: %v", errno)
		}
	})
	return ""
}

func (c oomCase) skip(t *testing.T) {
	if c.needs == nil {
		return
	}
	if missing := c.needs(t); missing != "" {
		t.Skip("this case needs " + missing)
	}
}

func TestOOMVerdictMatrix(t *testing.T) {
	n := start(t, harness.Options{})
	n.NeedWatch(t)
	for _, tc := range oomMatrix {
		t.Run(tc.name, func(t *testing.T) {
			tc.skip(t)
			m := *n
			m.TB = t
			p := n.HostPod("oom")
			sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
			id := tc.play(t, &m, p, sandbox)
			s := harness.Must(n.cri.Status(n.ctx, id))(t)
			t.Logf("%s: %s", s.Reason, s.Message)
			if s.Reason != tc.reason || s.ExitCode != tc.code || !strings.Contains(s.Message, tc.says) {
				t.Errorf("reason %q code %d message %q, want %q %d %q", s.Reason, s.ExitCode, s.Message, tc.reason, tc.code, tc.says)
			}
			if strings.ContainsAny(s.Message, "\n") {
				t.Errorf("not one line: %q", s.Message)
			}
			kills := m.waitKills(id, 1)
			k := kills[0]
			if i := slices.IndexFunc(kills, func(k pod.OOMKill) bool { return k.Init }); i >= 0 {
				k = kills[i] // of those killed together
			}
			// Since Linux 6.2 the counters of a process that holds as little as a shell are 0.
			big := k.Victim.Command == "payload"
			if k.Level != tc.level || k.Init != tc.init || k.Exec != tc.exec || k.Limit != 32<<20 && !tc.unlike || k.Victim.Command == "" || big && k.Anon == 0 || k.Likely {
				t.Errorf("kill on record: %+v", k)
			}
			checkScene(t, k, id)
			if tc.exec {
				n.counts(t, `vitrine_oom_kills_total{level="container",victim="exec"}`, 1)
			}
			m.must(n.cri.RemovePod(n.ctx, sandbox))
		})
	}
	t.Run("7 pod's limit, by a sibling", func(t *testing.T) {
		m := *n
		m.TB = t
		p := n.HostPod("oompod")
		p.Linux.Resources = &runtime.LinuxContainerResources{MemoryLimitInBytes: 96 << 20}
		sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
		holder := n.hungry(p, "holder", 0, "/bin/payload", "hog", "50")
		holder.Linux.Resources.OomScoreAdj = 1000
		victim := harness.Must(n.cri.Run(n.ctx, sandbox, p, holder))(t)
		waitLog(t, p, holder, "held")
		greedy := n.hungry(p, "greedy", 0, "/bin/payload", "hog", "60")
		greedy.Linux.Resources.OomScoreAdj = 1
		sibling := harness.Must(n.cri.Create(n.ctx, sandbox, p, greedy))(t)
		trigger := initPID(t, &m, sibling)
		m.must(n.cri.Start(n.ctx, sibling))
		m.exited(victim)
		s := harness.Must(n.cri.Status(n.ctx, victim))(t)
		t.Logf("%s: %s", s.Reason, s.Message)
		if s.Reason != "OOMKilled" || !strings.Contains(s.Message, "the pod's limit of 96Mi") || !strings.Contains(s.Message, "asked for more") {
			t.Errorf("%s: %s", s.Reason, s.Message)
		}
		if k := m.waitKills(victim, 1)[0]; k.Level != "pod" || k.Trigger.PID != trigger {
			t.Errorf("triggered by %d: %+v", trigger, k)
		} else {
			checkScene(t, k, victim)
			of := map[int]pod.ID{}
			for _, h := range k.Scene.Largest {
				of[h.PID] = h.Container
			}
			if of[k.Victim.PID] != pod.ID(victim) || of[trigger] != pod.ID(sibling) {
				t.Errorf("containers of the largest: %v", of)
			}
		}
		// The kernel may find that it needs both; then that is the sibling's own end.
		if m.heldOrExited(sibling, p, greedy) {
			if k := m.kills(sibling); len(k) != 0 {
				t.Errorf("the sibling has kills: %+v", k)
			}
			m.must(n.cri.Stop(n.ctx, sibling, 0))
			if s := harness.Must(n.cri.Status(n.ctx, sibling))(t); s.Reason == "OOMKilled" {
				t.Errorf("the sibling: %s", s.Message)
			}
		} else if k := m.waitKills(sibling, 1)[0]; k.Level != "pod" || !k.Init {
			t.Errorf("the sibling ended: %+v", k)
		}
		m.must(n.cri.RemovePod(n.ctx, sandbox))
	})
	t.Run("10 at once after the start", func(t *testing.T) {
		m := *n
		m.TB = t
		p := n.HostPod("oomsoon")
		sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
		var ids []string
		for i := range 8 {
			ids = append(ids, harness.Must(n.cri.Create(n.ctx, sandbox, p, n.hungry(p, "c"+strconv.Itoa(i), 32, "/bin/payload", "hog", "64")))(t))
		}
		var started sync.WaitGroup
		for _, id := range ids {
			started.Go(func() {
				if err := n.cri.Start(n.ctx, id); err != nil {
					t.Error(err)
				}
			})
		}
		started.Wait()
		for _, id := range ids {
			m.exited(id)
			s := harness.Must(n.cri.Status(n.ctx, id))(t)
			k := m.waitKills(id, 1)
			if s.Reason != "OOMKilled" || s.ExitCode != 137 || len(k) != 1 || !k[0].Init || k[0].Level != "container" {
				t.Errorf("reason %q code %d message %q kills %+v", s.Reason, s.ExitCode, s.Message, k)
			}
			t.Logf("killed %v after its start", k[0].At.Sub(time.Unix(0, s.StartedAt)))
		}
		m.must(n.cri.RemovePod(n.ctx, sandbox))
	})
	t.Run("12 limit too small to start", func(t *testing.T) {
		m := *n
		m.TB = t
		p := n.HostPod("oomsmall")
		sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
		c := n.hungry(p, "c", 0, "/bin/sleep", "1000")
		c.Linux.Resources.MemoryLimitInBytes = 600 << 10
		id, err := n.cri.Create(n.ctx, sandbox, p, c)
		if err == nil {
			err = n.cri.Start(n.ctx, id)
		}
		if err == nil || !strings.Contains(err.Error(), "memory limit 614400 below runtime minimum") {
			t.Errorf("said: %v", err)
		}
		// The smallest that is taken starts, or says that it is too small.
		c = n.hungry(p, "smallest", 0, "/bin/payload", "wait")
		c.Linux.Resources.MemoryLimitInBytes = spec.DefaultMinMemory
		id, err = n.cri.Create(n.ctx, sandbox, p, c)
		if err == nil {
			err = n.cri.Start(n.ctx, id)
		}
		t.Logf("with %d bytes: %v", c.Linux.Resources.MemoryLimitInBytes, err)
		if err != nil && !strings.Contains(err.Error(), "is too small to start a container") {
			t.Errorf("with %d bytes: %v", c.Linux.Resources.MemoryLimitInBytes, err)
		}
		m.must(n.cri.RemovePod(n.ctx, sandbox))
	})
	n.nothingLeft()
}

// However small the limit is, and wherever on the way a process is killed for it: that is
// what is said, whatever the runtime says.
func TestALimitThatIsTooSmallIsNamed(t *testing.T) {
	n := start(t, harness.Options{Config: "[runtime.defaults]\nmin_memory = -1\n"})
	n.NeedWatch(t)
	for _, kib := range []int64{256, 1 << 10, 4 << 10} {
		p := n.HostPod("tiny")
		sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
		c := n.hungry(p, "tiny", 0, "/bin/payload", "hog", "8")
		c.Linux.Resources.MemoryLimitInBytes = kib << 10
		id, err := n.cri.Create(n.ctx, sandbox, p, c)
		where := "CreateContainer"
		if err == nil {
			where = "StartContainer"
			err = n.cri.Start(n.ctx, id)
		}
		if err != nil {
			t.Logf("%d KiB: %s: %v", kib, where, err)
			// Version 1 takes no limit below what the runtime's process uses already.
			refused := strings.Contains(err.Error(), "is too small to start a container") || strings.Contains(err.Error(), "unable to set memory limit to "+strconv.FormatInt(kib<<10, 10))
			between := where == "StartContainer" && strings.Contains(err.Error(), "was killed because the container's limit of")
			if !between && (!refused || status.Code(err) != codes.InvalidArgument) {
				t.Errorf("with %d KiB %s said: %v", kib, where, err)
			}
		} else {
			n.exited(id)
			s := harness.Must(n.cri.Status(n.ctx, id))(t)
			t.Logf("%d KiB: %s: %s", kib, s.Reason, s.Message)
			if s.Reason != "OOMKilled" || !strings.Contains(s.Message, "the container's limit of") {
				t.Errorf("with %d KiB it ended: %s: %s", kib, s.Reason, s.Message)
			}
		}
		n.must(n.cri.RemovePod(n.ctx, sandbox))
	}
	n.nothingLeft()
}

func TestOOMKillWhileTheDaemonIsDead(t *testing.T) {
	n := start(t, harness.Options{})
	n.NeedWatch(t)
	p := n.HostPod("dead")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	script := "echo up; until [ -e /tmp/go ]; do sleep 0.05; done; "
	first := n.hungry(p, "victim", 32, "/bin/sh", "-c", script+"exec /bin/payload hog 64")
	second := n.hungry(p, "child", 32, "/bin/sh", "-c", script+hogAndSay+"sleep 1000; true")
	victim := harness.Must(n.cri.Run(n.ctx, sandbox, p, first))(t)
	parent := harness.Must(n.cri.Run(n.ctx, sandbox, p, second))(t)
	waitLog(t, p, first, "up")
	waitLog(t, p, second, "up")
	pids := []int{initPID(t, n, victim), initPID(t, n, parent)}
	n.must(n.Kill9())
	for _, pid := range pids {
		n.must(os.WriteFile("/proc/"+strconv.Itoa(pid)+"/root/tmp/go", nil, 0o644))
	}
	waitGone(t, pids[0])
	waitLog(t, p, second, "ready")
	n.must(syscall.Kill(pids[1], syscall.SIGKILL))
	waitGone(t, pids[1])
	n.must(n.Start(n.ctx))
	for id, want := range map[string]string{victim: "OOMKilled", parent: "Error"} {
		s := harness.Must(n.cri.WaitExit(n.ctx, id))(t)
		t.Logf("%s: %s", s.Reason, s.Message)
		if s.Reason != want || s.ExitCode != 137 {
			t.Errorf("%s: reason %q, code %d, message %q", s.Metadata.Name, s.Reason, s.ExitCode, s.Message)
		}
		if k := n.waitKills(id, 1); len(k) != 1 || k[0].Init != (id == victim) {
			t.Errorf("%s: kills %+v", s.Metadata.Name, k)
		} else {
			checkScene(t, k[0], id)
		}
	}
	if s := harness.Must(n.cri.Status(n.ctx, parent))(t); !strings.Contains(s.Message, "on the host (pid "+strconv.Itoa(os.Getpid())) {
		t.Errorf("who killed it: %q", s.Message)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestVitrineOOMTellsWhoWasKilled(t *testing.T) {
	n := start(t, harness.Options{})
	n.NeedWatch(t)
	if out := n.vitrine("oom"); !strings.Contains(out, "no OOM kill") {
		t.Errorf("before any kill: %s", out)
	}
	p := n.HostPod("told")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	id := harness.Must(n.cri.Run(n.ctx, sandbox, p, n.hungry(p, "c", 32, "/bin/payload", "hog", "64")))(t)
	n.exited(id)
	n.waitKills(id, 1)
	for _, args := range [][]string{{"oom"}, {"oom", "told"}, {"oom", "test/told/c"}, {"oom", id[:13]}} {
		if out := n.vitrine(args...); !strings.Contains(out, "test/told/c") || !strings.Contains(out, "payload (1) init") || !strings.Contains(out, "32.0Mi") || !strings.Contains(out, "OOMKilled") {
			t.Errorf("%v:\n%s", args, out)
		}
	}
	if out := n.vitrine("oom", "somebody-else"); !strings.Contains(out, "no OOM kill") {
		t.Errorf("of another pod: %s", out)
	}
	var kills []pod.OOMKill
	if err := json.Unmarshal([]byte(n.vitrine("oom", "-o", "json")), &kills); err != nil || len(kills) != 1 {
		t.Errorf("as JSON: %d kills, %v", len(kills), err)
	}
	if page := harness.Must(n.Metrics())(t); !strings.Contains(page, `vitrine_oom_kills_total{level="container",victim="init"} 1`) || !strings.Contains(page, `vitrine_container_exits_total{initiator="kernel",reason="oom"} 1`) {
		t.Error("the metrics do not have the kill once")
	}
	if out := n.vitrine("check"); !strings.Contains(out, "eBPF OOM kills") {
		t.Errorf("check does not say what of eBPF works:\n%s", out)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()

	// A wiped host has none of our programs left.
	if pins := harness.Must(n.Census())(t).Items[harness.Pins]; len(pins) == 0 {
		t.Error("the census sees no pins of a daemon with programs")
	}
	n.must(n.Stop())
	if out, err := exec.Command(filepath.Join(harness.Must(harness.Bin())(t), "vitrined"), append([]string{"wipe", "--images"}, n.Args()...)...).CombinedOutput(); err != nil {
		t.Fatalf("vitrined wipe: %v: %s", err, out)
	}
	census := harness.Must(n.Instance.Census())(t)
	if left := census.Remains(); strings.Contains(left, "bpf") || strings.Contains(left, "pin:") {
		t.Errorf("left after the wipe:\n%s", left)
	}
}

func TestProgramsThatAreSwitchedOffAreDetached(t *testing.T) {
	n := start(t, harness.Options{Config: blind})
	features := harness.Must(n.Get("/v1/check"))(t)
	if !strings.Contains(features, "switched off (ebpf.disabled)") {
		t.Errorf("check: %s", features)
	}
	// The same instance with programs, and without again: nothing stays attached.
	n.must(n.Stop())
	config := filepath.Join(n.Dir, "etc/vitrine.toml")
	n.must(os.WriteFile(config, nil, 0o644))
	n.must(n.Start(n.ctx))
	seen := harness.Must(n.Watches())(t)
	n.must(n.Stop())
	n.must(os.WriteFile(config, []byte(blind), 0o644))
	n.must(n.Start(n.ctx))
	census := harness.Must(n.Census())(t)
	if len(census.Items[harness.Pins]) != 0 || harness.Must(n.Watches())(t) {
		t.Errorf("with programs before: %v; now %v", seen, census.Items[harness.Pins])
	}
}
