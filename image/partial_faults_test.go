package image

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/fixture"
)

// What goes wrong in a partial pull is called what it is: damage is not a registry that
// cannot be reached, which would be tried again for ever.
func TestAFaultOfAPartialPullHasItsClass(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{2})
	layer := fixture.Layer{Pack: chunkedBlob, Files: []fixture.File{{Name: "opt/"}}}
	for i := range 16 {
		body := make([]byte, 32<<10)
		rng.Read(body)
		layer.Files = append(layer.Files, fixture.File{Name: fmt.Sprintf("opt/f%d", i), Body: body})
	}
	for name, c := range map[string]struct {
		fault fixture.Fault
		kind  error
		class string
	}{
		"flipped":                {fixture.Fault{Path: "/blobs/", Flip: 100 << 10}, pod.ErrUnavailable, "digest"},
		"flipped near the begin": {fixture.Fault{Path: "/blobs/", Flip: 3}, pod.ErrUnavailable, "digest"},
		// The library does not say that there was less than it asked for.
		"broken":   {fixture.Fault{Path: "/blobs/", Truncate: 100 << 10}, pod.ErrUnavailable, "digest"},
		"lost":     {fixture.Fault{Path: "/blobs/", Status: 404}, pod.ErrNotFound, "notfound"},
		"ill":      {fixture.Fault{Path: "/blobs/", Status: 503}, pod.ErrRegistryUnavailable, "server"},
		"stalling": {fixture.Fault{Path: "/blobs/", StallAfter: 100 << 10}, pod.ErrRegistryUnavailable, "stall"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.PartialPulls, c.StallTimeout = true, 3*time.Second })
			pushed := w.push("chunked/app:1", fixture.Image{Layers: []fixture.Layer{layer}})
			w.proxy.Inject(c.fault)
			_, err := w.Pull(t.Context(), PullRequest{Ref: pushed.Ref})
			var f *Failure
			if !errors.As(err, &f) || !errors.Is(err, c.kind) || f.Class() != c.class {
				t.Fatalf("%v, class %q, want %v, %s", err, f.Class(), c.kind, c.class)
			}
			t.Log(err)
		})
	}
}

// A layer that came as it was promised and is no archive, or ends in the middle of one, is
// damaged; its registry is not to blame.
func TestALayerThatIsNoArchiveIsDamaged(t *testing.T) {
	w := newWorld(t)
	for name, archive := range map[string][]byte{"a letter": []byte("Dear node, this is no archive."), "noise": make([]byte, 700)} {
		if name == "noise" {
			rand.NewChaCha8([32]byte{3}).Read(archive)
		}
		pushed := w.push("odd/"+fmt.Sprint(len(archive))+":1", fixture.Image{Layers: []fixture.Layer{{Tar: archive}}})
		_, err := w.Pull(t.Context(), PullRequest{Ref: pushed.Ref})
		var f *Failure
		if !errors.As(err, &f) || f.Class() != "digest" || errors.Is(err, pod.ErrRegistryUnavailable) {
			t.Errorf("%s: %v, class %q", name, err, f.Class())
		}
	}
}
