package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// attached counts the daemon's programs and links: those of system calls are never pinned,
// so the kernel has them as long as these descriptors, and no longer.
func (n *node) attached() (count int) {
	n.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", n.PID())
	for _, fd := range harness.Must(os.ReadDir(dir))(n) {
		if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && (strings.Contains(to, "bpf_link") || strings.Contains(to, "bpf-prog")) {
			count++
		}
	}
	return count
}

// detached waits until there are no more programs and links than before: a container's
// watches end right after its end is told.
func (n *node) detached(before int) {
	n.Helper()
	for deadline := time.Now().Add(harness.Scale(10 * time.Second)); n.attached() != before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.Fatalf("%d programs and links, %d before", n.attached(), before)
		}
	}
}

// called is what was counted of one system call of the only container of an answer.
func called(t testing.TB, answer, name string) (api.Syscalls, pod.Syscall) {
	t.Helper()
	var all []api.Syscalls
	if err := json.Unmarshal([]byte(answer), &all); err != nil || len(all) != 1 {
		t.Fatalf("%v: %s", err, answer)
	}
	for _, s := range all[0].Calls {
		if s.Name == name {
			return all[0], s
		}
	}
	return all[0], pod.Syscall{}
}

// check loads and attaches what can be asked for, and leaves nothing.
func TestCheckNamesWhatCanBeAskedOfSystemCalls(t *testing.T) {
	n := start(t, harness.Options{})
	harness.Must(n.Census())(t) // the programs are loaded then
	idle := n.attached()
	n.NeedWatch(t)
	out := n.vitrine("check")
	for _, what := range []string{"syscall counts", "syscall latency", "denied syscalls", "flight recorder"} {
		if !regexp.MustCompile(`(?m)^yes +ebpf +eBPF ` + what + ` `).MatchString(out) {
			t.Errorf("check does not say that there are eBPF %s:\n%s", what, out)
		}
	}
	n.detached(idle)
}

func TestSyscallsAreCountedForAWhileAndNothingStaysAttached(t *testing.T) {
	n := start(t, harness.Options{})
	n.NeedWatch(t)
	p := n.HostPod("watched")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	id, c := n.run(sandbox, p, "c", "/bin/payload", "pulse", fmt.Sprint(unix.SYS_FSYNC))
	waitLog(t, p, c, "beating")
	idle := n.attached()

	began := time.Now()
	answer := n.vitrine("syscalls", "--for", "1s", "--latency", "-o", "json", "test/watched/c")
	took := uint64(time.Since(began) / time.Millisecond)
	// Descriptor 0 is no file that can be synced, or none at all.
	whole, fsync := called(t, answer, "fsync")
	if fsync.Calls == 0 || fsync.Calls > took || fsync.Errors != fsync.Calls || whole.Whole || whole.State != "running" || whole.To.Sub(whole.From) < time.Second {
		t.Errorf("%d ms: %+v of %+v", took, fsync, whole)
	}
	n.detached(idle)
	// A container that ends, ends the watch.
	out := make(chan string, 1)
	go func() { out <- n.vitrine("syscalls", "--for", "30m", id) }()
	for deadline := time.Now().Add(harness.Scale(30 * time.Second)); !strings.Contains(harness.Must(n.Metrics())(t), `vitrine_syscall_watches{what="counts"} 1`); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody watches")
		}
	}
	if n.attached() == idle {
		t.Error("nothing is attached while somebody watches")
	}
	n.must(n.cri.Stop(n.ctx, id, 5))
	if said := <-out; !strings.HasPrefix(said, "test/watched/c (running), counted for ") || !strings.Contains(said, "\n  futex ") {
		t.Errorf("said %q", said)
	}
	n.detached(idle)
	for query, want := range map[string]string{
		"/v1/syscalls?pod=" + id:                       "409", // nobody counted
		"/v1/syscalls?pod=test/nobody&for=1s":          "404",
		"/v1/syscalls?pod=test/watched&for=-1s":        "400",
		"/v1/syscalls?for=1s":                          "400",
		"/v1/flight?pod=" + id:                         "409",
		"/v1/seccomp/profile?pod=test/watched/c":       "409",
		"/v1/seccomp/profile?pod=test/watched/another": "404",
	} {
		if out, err := n.Get(query); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v, want %s", query, out, err, want)
		}
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestSyscallsOfAWatchedLifeAreExactAndOnRecord(t *testing.T) {
	n := start(t, harness.Options{Config: "[runtime]\nannotations = [\"io.vitrine.*\"]\n[runtime.observe]\nsyscalls = \"counts\"\n"})
	n.NeedWatch(t)
	idle := n.attached()
	p := n.HostPod("counted")
	p.Annotations = map[string]string{"io.vitrine.syscalls/timed": "latency", "io.vitrine.syscalls/not": "none"}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	for _, name := range []string{"c", "timed", "not"} {
		id, _ := n.run(sandbox, p, name, "/bin/payload", "syscall", fmt.Sprint(unix.SYS_GETPPID), "6400")
		n.exited(id)
		answer, err := n.Get("/v1/syscalls?pod=" + id)
		if name == "not" {
			if err == nil {
				t.Errorf("nobody asked, and it is answered %s", answer)
			}
			continue
		}
		n.must(err)
		whole, getppid := called(t, answer, "getppid")
		if getppid.Calls != 6400 || getppid.Errors != 0 || !whole.Whole || whole.State != "exited" {
			t.Errorf("%s: %+v of %+v", name, getppid, whole)
		}
		if timed := getppid.Samples; (name == "timed") != (timed >= 99) || timed > 101 {
			t.Errorf("%s: %d calls were timed: %+v", name, timed, getppid)
		}
		// What the launcher does before is not the container's.
		if i := slices.IndexFunc(whole.Calls, func(s pod.Syscall) bool { return s.Name == "pivot_root" || s.Name == "mount" || s.Name == "setns" }); i >= 0 {
			t.Errorf("%s: %+v", name, whole.Calls[i])
		}
	}
	n.detached(idle)
	if page := harness.Must(n.Metrics())(t); !strings.Contains(page, `vitrine_syscall_watches{what="counts"} 0`) {
		t.Error("no gauge of watches")
	}
	if out := n.vitrine("syscalls", "test/counted/timed"); !strings.Contains(out, "from its first call on") || !strings.Contains(out, "P99") {
		t.Errorf("said %q", out)
	}
	bad := harness.Container(p, "bad", n.image, "/bin/true")
	bad.Annotations = map[string]string{"io.vitrine.syscalls": "all"}
	if _, err := n.cri.Create(n.ctx, sandbox, p, bad); err == nil || !strings.Contains(err.Error(), "none of none, counts and latency") {
		t.Errorf("an annotation that cannot be: %v", err)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// hostileIn runs the hostile workload and returns its id after its end.
func (n *node) hostileIn(p *runtime.PodSandboxConfig, sandbox, name string, seccomp *runtime.SecurityProfile, extra ...string) string {
	n.Helper()
	c := harness.Container(p, name, n.image, append([]string{"/bin/payload", "hostile"}, extra...)...)
	c.Linux.SecurityContext.Capabilities = &runtime.Capability{DropCapabilities: []string{"ALL"}}
	c.Linux.SecurityContext.ReadonlyRootfs = true
	if seccomp != nil {
		c.Linux.SecurityContext.Seccomp = seccomp
	}
	id := harness.Must(n.cri.Run(n.ctx, sandbox, p, c))(n)
	n.exited(id)
	n.stdout(p, c, "done\n")
	return id
}

// The workload runs under the profile that was learned of it exactly as it did before, and
// what it did not do then is refused and told.
func TestLearnedProfileIsEnoughAndNoMore(t *testing.T) {
	n := start(t, harness.Options{Config: "[runtime]\nannotations = [\"io.vitrine.*\"]\n"})
	n.NeedWatch(t)
	idle := n.attached()
	p := n.HostPod("learned")
	p.Annotations = map[string]string{"io.vitrine.learn/first": "true", "io.vitrine.denials": "true"}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	n.hostileIn(p, sandbox, "first", nil)

	path := filepath.Join(n.Dir, "learned.json")
	text := n.vitrine("seccomp", "profile", "-o", "json", "test/learned/first")
	n.must(os.WriteFile(path, []byte(text), 0o644))
	learned := &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Localhost, LocalhostRef: path}
	var p1 api.Profile
	n.must(json.Unmarshal([]byte(harness.Must(n.Get("/v1/seccomp/profile?pod=test/learned/first"))(t)), &p1))
	if !p1.Whole || p1.State != "exited" || !slices.Contains(p1.Called, "rt_sigaction") || !slices.Contains(p1.Refused, "mount") || slices.Contains(p1.Called, "mount") {
		t.Errorf("%+v", p1)
	}
	t.Logf("%d calls allowed, %d refused", len(p1.Called), len(p1.Refused))
	if out := n.vitrine("seccomp", "profile", "test/learned/first"); !strings.Contains(out, "learned from its first call") || !strings.Contains(out, "refused by seccomp") {
		t.Errorf("said %q", out)
	}

	again := n.denied(n.hostileIn(p, sandbox, "again", learned))
	if want := hostileLedger(); !slices.Equal(again, want) {
		t.Errorf("under the learned profile it was denied\n%q, want\n%q", again, want)
	}
	more := n.denied(n.hostileIn(p, sandbox, "more", learned, fmt.Sprint(unix.SYS_SYSINFO)))
	if want := append(hostileLedger(), "seccomp sysinfo EPERM"); !slices.Equal(more, want) {
		t.Errorf("with one call more it was denied\n%q, want\n%q", more, want)
	}
	if out := n.vitrine("denials", "test/learned/more"); !strings.Contains(out, "a seccomp profile that allows sysinfo") {
		t.Errorf("said %q", out)
	}
	n.detached(idle)
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestProfileLearnedFromARunningContainerSaysWhatItMayLack(t *testing.T) {
	n := start(t, harness.Options{})
	n.NeedWatch(t)
	idle := n.attached()
	p := n.HostPod("late")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	id, c := n.run(sandbox, p, "c", "/bin/payload", "pulse", fmt.Sprint(unix.SYS_FSYNC))
	waitLog(t, p, c, "beating")
	if out := n.vitrine("seccomp", "learn", "test/late"); !strings.Contains(out, "test/late/c: learned since ") || !strings.Contains(out, "what it called before is not known") {
		t.Errorf("said %q", out)
	}
	var learned api.Profile
	for deadline := time.Now().Add(harness.Scale(30 * time.Second)); !slices.Contains(learned.Called, "fsync"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("learned %+v", learned)
		}
		learned = api.Profile{}
		n.must(json.Unmarshal([]byte(harness.Must(n.Get("/v1/seccomp/profile?pod=test/late/c"))(t)), &learned))
	}
	// Go's program sets up its signals before anything else, and not again.
	if learned.Whole || slices.Contains(learned.Called, "rt_sigaction") {
		t.Errorf("what came before is said to be known: %+v", learned)
	}
	if n.attached() == idle {
		t.Error("nothing is attached while it is learned")
	}
	if out := n.vitrine("seccomp", "learn", "--end", id); !strings.Contains(out, "no longer learned") {
		t.Errorf("said %q", out)
	}
	n.detached(idle)
	if out := n.vitrine("seccomp", "profile", "-o", "json", "test/late"); !strings.Contains(out, `"fsync"`) {
		t.Errorf("what was learned is gone: %s", out)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
