package history_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o history.Options) *history.Store {
	t.Helper()
	s, err := history.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func exited(name string, at time.Time) history.Entry {
	return history.FromEvent(pod.Event{
		Time: at, Kind: pod.ContainerExited, From: pod.Running, To: pod.Exited,
		Sandbox: pod.Sandbox{ID: pod.ID(strings.Repeat("a", 60) + "0000"), Config: pod.SandboxConfig{PodSandboxConfig: &runtime.PodSandboxConfig{
			Metadata: &runtime.PodSandboxMetadata{Namespace: "shop", Name: name, Uid: "uid-" + name}}}},
		Container: &pod.Container{ID: pod.ID(strings.Repeat("b", 60) + "1111"), Exit: &pod.Exit{Code: 137, Reason: "OOMKilled"},
			Config: pod.ContainerConfig{ContainerConfig: &runtime.ContainerConfig{Metadata: &runtime.ContainerMetadata{Name: "app", Attempt: 3}}}},
	})
}

func found(t *testing.T, s *history.Store, query string) []history.Entry {
	t.Helper()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := s.Find(query)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestWhatHappenedIsFoundAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, history.Options{Dir: dir})
	s.Put(exited("web", time.Now()))
	s.Put(exited("other", time.Now()))
	s.Close()
	s = open(t, history.Options{Dir: dir})
	for _, query := range []string{"shop/web", "web", "uid-web", "shop/web/app"} {
		got := found(t, s, query)
		if len(got) != 1 || got[0].Pod != "web" || got[0].Event.Exit.Reason != "OOMKilled" || got[0].Event.Attempt != 3 {
			t.Errorf("%s: %+v", query, got)
		}
	}
	if got := found(t, s, "bbbbbbb"); len(got) != 2 {
		t.Errorf("by the beginning of an id: %+v", got)
	}
	if got := found(t, s, "shop/none"); len(got) != 0 {
		t.Errorf("of a pod that never was: %+v", got)
	}
}

// A crash tears the last line; what was before it and what comes after it is whole.
func TestATornLineCostsThatLineOnly(t *testing.T) {
	dir := t.TempDir()
	s := open(t, history.Options{Dir: dir})
	s.Put(exited("first", time.Now()))
	s.Put(exited("torn", time.Now()))
	s.Close()
	path := filepath.Join(dir, "0000000001.log")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < 200; cut += 20 {
		if err := os.WriteFile(path, raw[:len(raw)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s = open(t, history.Options{Dir: dir})
		s.Put(exited("second", time.Now()))
		got := found(t, s, "")
		names := ""
		for _, e := range got {
			names += e.Pod + " "
		}
		if want := "first second "; names != want && (cut != 1 || names != "first torn second ") {
			t.Errorf("cut by %d: %s", cut, names)
		}
		s.Close()
	}
	damaged := append([]byte{}, raw...)
	damaged[len(raw)-30] ^= 1
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, history.Options{Dir: dir})
	if got := found(t, s, ""); len(got) != 1 || got[0].Pod != "first" {
		t.Errorf("a line that does not fit its sum was believed: %+v", got)
	}
}

func TestTheOldestGivesWay(t *testing.T) {
	dir := t.TempDir()
	const limit = 64 << 10
	s := open(t, history.Options{Dir: dir, Bytes: limit})
	const n = 1000
	for i := range n {
		s.Put(exited(fmt.Sprintf("pod%04d", i), time.Now()))
		if i%100 == 0 {
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := found(t, s, "")
	if len(got) == 0 || len(got) >= n || got[len(got)-1].Pod != fmt.Sprintf("pod%04d", n-1) {
		t.Fatalf("%d entries", len(got))
	}
	// A batch is written whole and the segment in use is never removed.
	if s.Size() > limit+limit/2+(100<<10) {
		t.Errorf("%d bytes of %d", s.Size(), limit)
	}
	if s.Dropped() != 0 {
		t.Errorf("%d dropped", s.Dropped())
	}
}

func TestWhatIsTooOldIsNotShown(t *testing.T) {
	s := open(t, history.Options{Dir: t.TempDir(), Age: time.Hour})
	s.Put(exited("old", time.Now().Add(-2*time.Hour)))
	s.Put(exited("new", time.Now()))
	if got := found(t, s, ""); len(got) != 1 || got[0].Pod != "new" {
		t.Errorf("%+v", got)
	}
}

// Put never waits for the disk: what it refuses is counted and told, and when there is
// room again the store goes on.
func TestAFullDiskCostsEntriesAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		if os.Geteuid() == 0 {
			t.Fatal(err)
		}
		t.Skip("needs CAP_SYS_ADMIN for a small file system: ", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	filler := filepath.Join(dir, "filler")
	var told atomic.Int32
	s := open(t, history.Options{Dir: filepath.Join(dir, "history"), Problem: func(error) { told.Add(1) }})
	if err := os.WriteFile(filler, make([]byte, 64<<10), 0o600); err == nil {
		t.Fatal("the file system is larger than asked for")
	}
	for range 100 {
		s.Put(exited("web", time.Now()))
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if s.Dropped() == 0 || told.Load() == 0 {
		t.Errorf("%d dropped, told %d times", s.Dropped(), told.Load())
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s.Put(exited("later", time.Now()))
	if got := found(t, s, "shop/later"); len(got) != 1 {
		t.Errorf("after there was room again: %+v", got)
	}
}

func TestAStoreThatIsOffKeepsNothing(t *testing.T) {
	var none *history.Store
	none.Put(exited("web", time.Now()))
	if got := found(t, none, ""); got != nil || none.Size() != 0 || none.Dropped() != 0 || none.Close() != nil {
		t.Errorf("%+v", got)
	}
}

func FuzzSegment(f *testing.F) {
	f.Add([]byte("vitrine-history 1\n00000000 {}\n"))
	f.Add([]byte("vitrine-history 1\ngarbage"))
	// Whatever the file holds, opening and reading it does not panic, and what is put
	// afterwards is found.
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "0000000001.log"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := history.Open(history.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.Put(exited("web", time.Now()))
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		entries, err := s.Find("shop/web")
		if err != nil || len(entries) == 0 {
			t.Errorf("%d entries, %v", len(entries), err)
		}
	})
}
