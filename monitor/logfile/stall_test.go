package logfile

import (
	"strings"
	"testing"
)

// watcher counts, and does something during one call.
type watcher struct {
	entered, left int
	during        func()
}

func (w *watcher) Enter() { w.entered++ }

func (w *watcher) Leave() {
	w.left++
	if do := w.during; do != nil {
		w.during = nil
		do()
	}
}

func TestWhatIsDroppedDuringACallIsMarkedAndCounted(t *testing.T) {
	const lost = "rest of it\nwhole\nbegin"
	for _, c := range []struct {
		name, first, want string
	}{
		{"behind a whole line", "one\n", "F one|F [vitrine: 22 bytes in 2 lines are missing here: errno 110]|F ning|F two"},
		{"within a line", "one\nhalf a line, the ", "F one|F half a line, the |F [vitrine: 22 bytes in 2 lines are missing here: errno 110]|F ning|F two"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, path := open(t, 0)
			s := NewStream(false)
			guard := &watcher{during: func() { w.Drop(s, []byte(lost)) }}
			w.Guard = guard
			w.Write(s, 1, []byte(c.first))
			if !w.Behind() {
				t.Fatal("nothing was dropped")
			}
			w.CatchUp(2)
			if w.Behind() {
				t.Error("still behind")
			}
			w.Write(s, 3, []byte("ning\ntwo\n"))
			var got []string
			for line := range strings.Lines(string(read(t, path))) {
				got = append(got, strings.TrimSuffix(line[stampLen+len(" stdout "):], "\n"))
			}
			if text := strings.Join(got, "|"); text != c.want {
				t.Errorf("%s\nwant %s", text, c.want)
			}
			if in := uint64(len(c.first) + len(lost) + len("ning\ntwo\n")); w.BytesIn != in || w.Dropped != uint64(len(lost)) || w.DroppedLines != 2 {
				t.Errorf("counters %+v, %d bytes came", w.Counters, in)
			}
			if guard.entered == 0 || guard.entered != guard.left {
				t.Errorf("%d calls entered, %d left", guard.entered, guard.left)
			}
		})
	}
}
