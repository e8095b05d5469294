package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// checkScene checks what must be true of the scene of any kill in a container of a pod.
func checkScene(t *testing.T, k pod.OOMKill, id string) {
	t.Helper()
	s := k.Scene
	if s == nil {
		t.Fatalf("the kill has no scene: %+v", k)
	}
	victim := slices.IndexFunc(s.Largest, func(h pod.HeldBy) bool { return h.PID == k.Victim.PID })
	if len(s.Largest) == 0 || len(s.Largest) > 5 || s.Processes < len(s.Largest) || s.LookedAt != 0 {
		t.Errorf("%d of %d processes, %d looked at", len(s.Largest), s.Processes, s.LookedAt)
	}
	if !slices.IsSortedFunc(s.Largest, func(a, b pod.HeldBy) int { return int(b.Held()>>12) - int(a.Held()>>12) }) {
		t.Errorf("not by size: %+v", s.Largest)
	}
	if victim < 0 {
		t.Errorf("the victim %d is not among the largest: %+v", k.Victim.PID, s.Largest)
	} else if h := s.Largest[victim]; h.Container != pod.ID(id) || h.Command != k.Victim.Command || !k.Group && h.Anon>>20 != k.Anon>>20 {
		t.Errorf("the victim held %d, and is %+v", k.Anon, h)
	}
	at := map[string]pod.LevelMemory{}
	for _, l := range s.Levels {
		at[l.Level] = l
	}
	if at["container"].Usage == 0 || at["pod"].Usage == 0 {
		t.Errorf("levels: %+v", s.Levels)
	}
	if l := at[k.Level]; k.Level != "global" && !k.Swap && (l.Limit != k.Limit || !k.Group && max(l.Usage, k.Usage)-min(l.Usage, k.Usage) > 1<<20) {
		t.Errorf("the level that ran out had %d of %d, now %+v", k.Usage, k.Limit, l)
	}
	// The kernel adds up for its own report, of which it makes ten in five seconds.
	if m := s.Split; m != nil && !k.Group { // whose later victims find less in use
		if d := int64(m.Anon+m.File+m.Shmem+m.Kernel+m.Sock) - int64(k.Usage); max(d, -d) > int64(k.Usage)/20+1<<20 || m.Anon == 0 || m.Kernel == 0 {
			t.Errorf("%+v is not the %d in use", *m, k.Usage)
		}
	}
}

// Processes of known sizes share a limit with one that takes all: the five are told with
// what they held, on the record, in the status and by `vitrine oom`.
func TestOOMKillTellsWhoHeldTheMemory(t *testing.T) {
	n := start(t, harness.Options{})
	n.NeedWatch(t)
	p := n.HostPod("held")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	// Room for the last of them to grow above the others, each of which holds more than it is told.
	c := n.hungry(p, "c", 96, "/bin/sh", "-c", "for n in 4 6 8 10 12; do /bin/payload hog $n & done; until [ -e /tmp/go ]; do sleep 0.1; done; exec /bin/payload hog 128")
	id := harness.Must(n.cri.Run(n.ctx, sandbox, p, c))(t)
	deadline := time.Now().Add(harness.Scale(time.Minute))
	for raw := ""; strings.Count(raw, "held") < 5; time.Sleep(20 * time.Millisecond) {
		log, _ := os.ReadFile(harness.LogPath(p, c))
		if raw = string(log); time.Now().After(deadline) {
			t.Fatalf("not all hold their memory: %s", raw)
		}
	}
	n.must(os.WriteFile("/proc/"+strconv.Itoa(initPID(t, n, id))+"/root/tmp/go", nil, 0o644))
	n.exited(id)
	kills := n.waitKills(id, 1)
	k := kills[len(kills)-1]
	checkScene(t, k, id)
	s := k.Scene
	if s.Processes != 6 || len(s.Largest) != 5 {
		t.Fatalf("%d of %d processes: %+v", len(s.Largest), s.Processes, s.Largest)
	}
	for i, mib := range []uint64{0, 12, 10, 8, 6} {
		h := s.Largest[i]
		if h.Command != "payload" || h.Container != pod.ID(id) || i == 0 != (h.PID == k.Victim.PID) || i > 0 && (h.Anon < mib<<20 || h.Anon >= (mib+4)<<20) {
			t.Errorf("place %d: %d MiB expected of %+v", i, mib, h)
		}
	}
	status := harness.Must(n.cri.Status(n.ctx, id))(t)
	t.Log(status.Message)
	if want := fmt.Sprintf(`(%q, pid %d)`, "payload", s.Largest[1].ContainerPID); !strings.Contains(status.Message, "of the container's 6 processes the largest held ") || !strings.Contains(status.Message, want) || strings.Contains(status.Message, "\n") {
		t.Errorf("message: %q", status.Message)
	}
	out := n.vitrine("oom", "--scene", "held")
	t.Log("\n" + out)
	for _, want := range []string{"the 5 largest of 6 processes:", "container: ", "of a limit of 96.0Mi", "pod: ", "the memory"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	for _, h := range s.Largest {
		if line := fmt.Sprintf("payload (%d)", h.ContainerPID); strings.Count(out, line+" ") < 1 {
			t.Errorf("no %q in:\n%s", line, out)
		}
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()

	// What is kept of pods that are gone has it, too.
	if why := n.vitrine("why", "held"); !strings.Contains(why, "of the container's 6 processes the largest held") {
		t.Errorf("why:\n%s", why)
	}
}
