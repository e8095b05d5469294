package lifecycle

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestLogsTakeWhatTheyAndTheirForebearsTake(t *testing.T) {
	m, _ := observed(t)
	dir := t.TempDir()
	var want uint64
	for name, counts := range map[string]bool{
		"0.log": true, "0.log.20261121-093000": true, "0.log.20261121-090000.gz": true,
		"1.log": false, "0.logs": false, "note": false, // another restart's, and nobody's
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, 100<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		if counts {
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				t.Fatal(err)
			}
			want += uint64(st.Blocks) * 512
		}
	}
	if err := os.Symlink("/proc/self/exe", filepath.Join(dir, "0.log.link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "0.log"), "", filepath.Join(dir, "gone", "0.log")} {
		e := m.withContainer(t, pod.Running, pod.Evidence{})
		c := *e.value.Load()
		c.LogPath = path
		e.value.Store(&c)
	}
	if got, known := m.LogBytes(); !known || got != want || want == 0 {
		t.Errorf("%d bytes (known: %v), want %d", got, known, want)
	}
}

func TestLogsThatDoNotAnswerKeepNobodyAndAreNotToldForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l logSizes
		looks, answer := 0, make(chan struct{})
		get := func() (uint64, bool) {
			return l.get(func() []string { return []string{"a", "b"} }, func(string) uint64 { looks++; <-answer; return 7 })
		}
		began := time.Now()
		if _, known := get(); known || time.Since(began) > logSizesWait {
			t.Errorf("known: %v, after %v", known, time.Since(began))
		}
		get()
		if synctest.Wait(); looks != 1 {
			t.Errorf("%d looks at a log that does not answer", looks)
		}
		close(answer)
		synctest.Wait()
		if got, known := get(); got != 14 || !known || looks != 2 {
			t.Errorf("%d, %v after %d looks", got, known, looks)
		}
		answer = make(chan struct{}) // it hangs again
		time.Sleep(logSizesAge)
		if got, known := get(); got != 14 || !known || looks != 3 {
			t.Errorf("%d, %v after %d looks", got, known, looks)
		}
		time.Sleep(logSizesStale)
		if _, known := get(); known {
			t.Error("a figure that is too old is told")
		}
		close(answer)
	})
}
