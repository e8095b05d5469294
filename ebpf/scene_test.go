package ebpf_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
)

// ready starts a part in the cgroup and waits until it says that it has its memory.
func ready(t *testing.T, dir, part string) (*exec.Cmd, io.Writer) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "PLAY="+part, "PLAY_CGROUP="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line := make([]byte, 6)
	if n, err := out.Read(line); err != nil || string(line[:n]) != "ready\n" {
		t.Fatalf("%s said %q: %v", part, line[:n], err)
	}
	return cmd, in
}

// limit gives the cgroup room for so much more, and has the kernel add up what it holds: it
// would do so for its own report of the kill, unless it has reported too often lately.
func limit(t *testing.T, dir string, room int) (bytes uint64) {
	t.Helper()
	usage, file := "memory.current", "memory.max"
	if _, err := os.Stat(filepath.Join(dir, "memory.usage_in_bytes")); err == nil {
		usage, file = "memory.usage_in_bytes", "memory.limit_in_bytes"
	}
	raw, err := os.ReadFile(filepath.Join(dir, usage))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(raw), &bytes); err != nil {
		t.Fatal(err)
	}
	bytes += uint64(room)
	bytes -= bytes % uint64(os.Getpagesize())
	if err := os.WriteFile(filepath.Join(dir, file), []byte(strconv.FormatUint(bytes, 10)), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(dir, "memory.stat")); err != nil {
		t.Fatal(err)
	}
	return bytes
}

func apart(a, b uint64) uint64 { return max(a, b) - min(a, b) }

func about(got uint64, want int) bool { return got >= uint64(want) && got <= uint64(want)+8*mib }

// anonymous is what the page tables of a process have, which nobody counts: they are walked.
func anonymous(t *testing.T, pid int) (bytes uint64) {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "Anonymous:")
	if _, err := fmt.Sscan(rest, &bytes); err != nil {
		t.Fatal(err)
	}
	return bytes << 10
}

// exactly is how far a figure of a process at rest may be off. Until Linux 6.1 each thread
// keeps up to 64 pages to itself (TASK_RSS_EVENTS_THRESH, mm/memory.c), of which nothing is
// told; since then, what each CPU keeps is added up.
func exactly(t *testing.T) int64 {
	t.Helper()
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var old *btf.Struct
	if kernel.TypeByName("mm_rss_stat", &old) == nil {
		return 16 * 64 * 4096
	}
	return 40 << 10
}

// Seven processes of known sizes, and a tmpfs: a kill's scene has the five largest of them
// with what they held, what all of the cgroup's memory was, and the levels above it.
func TestSceneOfAnOOMKill(t *testing.T) {
	p := open(t)
	events := listen(t, p)
	tmp := t.TempDir()
	if err := unix.Mount("tmpfs", tmp, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(tmp, unix.MNT_DETACH)
	pod, podID := newCgroup(t, "", "scenepod", 512*mib)
	dir, id := newCgroup(t, pod, "scene", 0)
	other, _ := newCgroup(t, pod, "beside", 0)
	track(t, p, id)
	beside, _ := ready(t, other, "hold 60")
	holders := map[int]int{}
	for _, size := range []int{4, 8, 14, 10, 6} {
		cmd, _ := ready(t, dir, "hold "+strconv.Itoa(size))
		holders[cmd.Process.Pid] = size
	}
	ready(t, dir, "file 12 "+filepath.Join(tmp, "shared"))
	hog, in := ready(t, dir, "brim 40")
	most := limit(t, dir, 2*mib)
	if _, err := io.WriteString(in, "x"); err != nil {
		t.Fatal(err)
	}
	e := next(t, events, ebpf.OOM, id)
	s := e.OOM.Scene
	if s == nil {
		t.Fatal("the kill has no scene")
	}
	t.Logf("%+v", *s)
	if s.Processes != 7 || s.Cut || s.Looked < 8 || len(s.Largest) != 5 {
		t.Errorf("%d processes, %d looked at, cut %v, %d told; want 7", s.Processes, s.Looked, s.Cut, len(s.Largest))
	}
	sizes := []int{0, 14, 10, 8, 6}
	for i, h := range s.Largest {
		if i == 0 {
			// The two are read one after the other, and threads may give in between what they keep.
			if d := int64(h.Anon) - int64(e.OOM.Anon); h.TGID != hog.Process.Pid || h.Anon < 40*mib || h.Anon > 64*mib /* what is reclaimed of files, too */ || max(d, -d) > exactly(t) {
				t.Errorf("the largest is the hog, %d: %+v; the victim held %d", hog.Process.Pid, h, e.OOM.Anon)
			}
			continue
		}
		if holders[h.TGID] != sizes[i] || !about(h.Anon, sizes[i]*mib) || h.Cgroup != id || h.Comm != "exe" || h.TGID == beside.Process.Pid {
			t.Errorf("place %d: %d MiB expected of %+v", i, sizes[i], h)
		}
		if d := int64(h.Anon) - int64(anonymous(t, h.TGID)); max(d, -d) > exactly(t) {
			t.Errorf("place %d: the page tables have %d bytes less than the %d told", i, d, h.Anon)
		} else {
			t.Logf("place %d: %d bytes off", i, d)
		}
	}
	var ids []uint64
	for _, l := range s.Levels {
		ids = append(ids, l.Cgroup)
	}
	if len(s.Levels) < 2 || !slices.Equal(ids[:2], []uint64{id, podID}) || s.Levels[0].Limit != most || s.Levels[1].Limit != 512*mib ||
		apart(s.Levels[0].Usage, e.OOM.Usage) > mib || s.Levels[1].Usage < s.Levels[0].Usage+60*mib {
		t.Errorf("levels of %d and %d: %+v", id, podID, s.Levels)
	}
	if s.Stats == nil {
		t.Fatal("what the memory was is not known")
	}
	sum := s.Stats.Anon + s.Stats.File + s.Stats.Shmem + s.Stats.Kernel + s.Stats.Sock
	if d := apart(sum, s.Stats.Usage); apart(s.Stats.Usage, e.OOM.Usage) > mib || !about(s.Stats.Shmem, 12*mib) || s.Stats.Anon < 60*mib || s.Stats.Slab > s.Stats.Kernel || d > 4*mib {
		t.Errorf("%+v is %d of %d in use", *s.Stats, sum, e.OOM.Usage)
	}
	if l := last(t, p, id); l.OOM == nil || l.OOM.OOM.Scene == nil || l.OOM.OOM.Scene.Processes != 7 {
		t.Errorf("kept: %+v", l.OOM)
	}
}
