package image

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/test/fixture"
)

func TestPullsLeaveNoGoroutineAndNoDescriptor(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.StallTimeout = 2 * time.Second })
	pushed := w.push("leak/image:1", bulky(1<<20))
	round := func() {
		w.pull(pushed.Ref)
		if err := w.Remove(t.Context(), pushed.Ref); err != nil {
			t.Fatal(err)
		}
		for _, fault := range []fixture.Fault{{Path: "/manifests/", Status: 500}, {Path: "/blobs/", Flip: 500 << 10}, {Path: "/blobs/", StallAfter: 300 << 10}} {
			remove := w.proxy.Inject(fault)
			if _, err := w.Pull(t.Context(), PullRequest{Ref: pushed.Ref}); err == nil {
				t.Error("a fault had no effect")
			}
			remove()
		}
		remove := w.proxy.Inject(fixture.Fault{Path: "/blobs/", Delay: time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		w.Pull(ctx, PullRequest{Ref: pushed.Ref})
		cancel()
		remove()
	}
	count := func() (goroutines, descriptors int) {
		entries, _ := os.ReadDir("/proc/self/fd")
		return runtime.NumGoroutine(), len(entries)
	}
	round()
	goroutines, descriptors := count()
	for range 5 {
		round()
	}
	g, d := count()
	for deadline := time.Now().Add(30 * time.Second); (g > goroutines || d > descriptors) && time.Now().Before(deadline); g, d = count() {
		time.Sleep(20 * time.Millisecond)
	}
	if g > goroutines+2 || d > descriptors+2 { // the proxy keeps some of its own
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines became %d, %d descriptors became %d\n%s", goroutines, g, descriptors, d, stacks[:runtime.Stack(stacks, true)])
	}
}

func TestUncoveredLayersTakeThePlainPath(t *testing.T) {
	w := newWorld(t)
	files := []fixture.File{{Name: "l", Type: '2', Linkname: "nowhere/yet"}, {Name: "l/file", Body: []byte("x")}}
	img := w.pull(w.push("uncovered/image:1", fixture.Image{Layers: []fixture.Layer{{Files: files}}}).Ref)
	if body, err := os.ReadFile(w.layerDir(img.layers[0]) + "/diff/nowhere/yet/file"); err != nil || string(body) != "x" {
		t.Errorf("%q, %v", body, err)
	}
	if info, err := w.FsInfo(t.Context()); err != nil || info.Images.Bytes == 0 {
		t.Errorf("%+v, %v", info, err)
	}
}
