package image

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/fixture"
)

// bulky is an image whose one layer does not compress.
func bulky(size int) fixture.Image {
	noise := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(noise)
	return fixture.Image{Layers: []fixture.Layer{{Files: []fixture.File{{Name: "noise", Body: noise}}}}}
}

func TestEachFaultOfARegistryHasItsError(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.StallTimeout = 2 * time.Second })
	pushed := w.push("faulty/image:1", bulky(1<<20))
	for name, test := range map[string]struct {
		fault fixture.Fault
		kind  error
		class string
		begin string
	}{
		"manifest 401":    {fixture.Fault{Path: "/manifests/", Status: 401}, pod.ErrDenied, "auth", "pull image"},
		"manifest 403":    {fixture.Fault{Path: "/manifests/", Status: 403}, pod.ErrDenied, "denied", "pull image"},
		"manifest 404":    {fixture.Fault{Path: "/manifests/", Status: 404}, pod.ErrNotFound, "notfound", "pull image"},
		"manifest 500":    {fixture.Fault{Path: "/manifests/", Status: 500}, pod.ErrRegistryUnavailable, "server", "RegistryUnavailable: "},
		"manifest 503":    {fixture.Fault{Path: "/manifests/", Status: 503, Body: "<html>" + strings.Repeat("x", 9999)}, pod.ErrRegistryUnavailable, "server", "RegistryUnavailable: "},
		"ping 500":        {fixture.Fault{Path: "/v2/", Status: 500}, pod.ErrRegistryUnavailable, "server", "RegistryUnavailable: "},
		"layer 404":       {fixture.Fault{Path: "/blobs/", Status: 404}, pod.ErrNotFound, "notfound", "pull image"},
		"layer 500":       {fixture.Fault{Path: "/blobs/", Status: 500}, pod.ErrRegistryUnavailable, "server", "RegistryUnavailable: "},
		"layer stalls":    {fixture.Fault{Path: "/blobs/", StallAfter: 300 << 10}, pod.ErrRegistryUnavailable, "stall", "RegistryUnavailable: "},
		"registry silent": {fixture.Fault{Path: "/manifests/", Delay: time.Hour}, pod.ErrRegistryUnavailable, "stall", "RegistryUnavailable: "},
		"layer lies":      {fixture.Fault{Path: "/blobs/", Flip: 500 << 10}, pod.ErrUnavailable, "digest", "pull image"},
		"manifest lies":   {fixture.Fault{Path: "/manifests/", Flip: 100}, pod.ErrUnavailable, "", "pull image"},
	} {
		t.Run(name, func(t *testing.T) {
			defer w.proxy.Inject(test.fault)()
			ref := pushed.Ref
			if name == "manifest lies" {
				ref = w.proxy.Addr + "/faulty/image@" + pushed.Digest.String()
			}
			_, err := w.Pull(t.Context(), PullRequest{Ref: ref})
			var f *Failure
			if !errors.Is(err, test.kind) || !errors.As(err, &f) || test.class != "" && f.Class() != test.class {
				t.Fatalf("got %v (class %s)", err, errorClass(err))
			}
			text := err.Error()
			if !strings.HasPrefix(text, test.begin) || !strings.Contains(text, "faulty/image") || strings.Contains(text, "\n") || len(text) > 2*maxText {
				t.Errorf("message: %s", text)
			}
			w.nothingStaged()
		})
	}
	w.pull(pushed.Ref)
}

// nothingStaged fails when a failed pull left files.
func (w *world) nothingStaged() {
	w.t.Helper()
	for _, dir := range []string{"/overlay/staging", "/overlay/tempdirs", "/tmp"} {
		if left, _ := os.ReadDir(w.Store.config.Root + dir); len(left) > 0 {
			w.t.Errorf("%d files are left in %s", len(left), dir)
		}
	}
	if layers, _ := w.storage.Layers(); len(layers) > 0 {
		w.t.Errorf("%d layers are left", len(layers))
	}
}

// A layer whose connection breaks goes on where it broke, as often as that happens.
func TestBrokenConnectionIsResumed(t *testing.T) {
	const size, cut = 24 << 20, 9 << 20
	w := newWorld(t)
	pushed := w.push("broken/image:1", bulky(size))
	var ranges atomic.Int32
	w.proxy.Inject(fixture.Fault{Path: "/blobs/", Check: func(r *http.Request) bool {
		if r.Header.Get("Range") != "" {
			ranges.Add(1)
		}
		return false // only looks
	}})
	w.proxy.Inject(fixture.Fault{Path: "/blobs/", Truncate: cut, Times: 2, Check: func(r *http.Request) bool {
		return !strings.Contains(r.URL.Path, pushed.ID) // the layer, not the configuration
	}})
	if img := w.pull(pushed.Ref); img.ID != pushed.ID {
		t.Errorf("pulled %s", img.ID)
	}
	if n := ranges.Load(); n != 2 {
		t.Errorf("%d requests asked for the rest of a layer, want 2", n)
	}
}

func TestRegistryThatAsksForPatienceGetsIt(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("patient/image:1", bulky(1<<20))
	for part, check := range map[string]func(*http.Request) bool{
		"/manifests/": nil,
		"/blobs/":     func(r *http.Request) bool { return !strings.Contains(r.URL.Path, pushed.ID) }, // the layer
	} {
		w.proxy.Inject(fixture.Fault{Path: part, Status: 429, Header: http.Header{"Retry-After": {"1"}}, Times: 1, Check: check})
	}
	from := time.Now()
	if img := w.pull(pushed.Ref); img.ID != pushed.ID {
		t.Errorf("pulled %s", img.ID)
	}
	if took := time.Since(from); took < 2*time.Second {
		t.Errorf("two seconds were asked for, the pull took %v", took)
	}
}

func TestPullsShowWhatIsUnderWay(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("shown/image:1", bulky(1<<20))
	remove := w.proxy.Inject(fixture.Fault{Path: "/blobs/", StallAfter: 600 << 10})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() { w.Pull(ctx, PullRequest{Ref: pushed.Ref}) })
	}
	deadline := time.Now().Add(5 * time.Second)
	var seen []PullState
	for time.Now().Before(deadline) {
		if seen = w.Pulls(); len(seen) == 1 && seen[0].Bytes > 0 && seen[0].Waiters == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if len(seen) != 1 || seen[0].Ref != pushed.Ref || seen[0].Phase != "image.layer" || seen[0].Waiters != 2 || seen[0].Bytes < 256<<10 || seen[0].Total < 1<<20 || seen[0].Bytes > seen[0].Total {
		t.Errorf("%+v", seen)
	}
	cancel()
	all.Wait()
	remove()
	for len(w.Pulls()) > 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if left := w.Pulls(); len(left) > 0 {
		t.Errorf("%+v is left", left)
	}
}

func TestUnreachableRegistryAndBadReferences(t *testing.T) {
	w := newWorld(t)
	for ref, kind := range map[string]error{
		"127.0.0.1:1/nobody/home:1":   pod.ErrRegistryUnavailable,
		"UPPER/case":                  pod.ErrInvalid,
		"":                            pod.ErrInvalid,
		"a b":                         pod.ErrInvalid,
		"127.0.0.1:1/x@sha256:abc":    pod.ErrInvalid,
		strings.Repeat("a", 2000):     pod.ErrInvalid,
		w.proxy.Addr + "/no/such:tag": pod.ErrNotFound,
		w.proxy.Addr + "/no@sha256:" + strings.Repeat("0", 64): pod.ErrNotFound,
	} {
		if _, err := w.Pull(t.Context(), PullRequest{Ref: ref}); !errors.Is(err, kind) {
			t.Errorf("pull of %.60q: %v, want %v", ref, err, kind)
		}
	}
}

func TestConcurrentPullsAreOne(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("shared/image:1", bulky(1<<20))
	w.proxy.Inject(fixture.Fault{Path: "/blobs/", Delay: 200 * time.Millisecond})
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if img, err := w.Pull(t.Context(), PullRequest{Ref: pushed.Ref}); err != nil || img.ID != pushed.ID {
				t.Errorf("pull: %.12s, %v", img.ID, err)
			}
		})
	}
	all.Wait()
	if n := len(w.proxy.Requests("GET /v2/shared/image/blobs/")); n != 2 {
		t.Errorf("%d blobs were fetched, want config and layer", n)
	}
}

func TestPullOutlivesOneWaiterAndEndsWithTheLast(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("waited/image:1", bulky(1<<20))
	remove := w.proxy.Inject(fixture.Fault{Path: "/blobs/", Delay: 400 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := w.Pull(ctx, PullRequest{Ref: pushed.Ref}); first <- err }()
	time.Sleep(100 * time.Millisecond)
	go func() { _, err := w.Pull(t.Context(), PullRequest{Ref: pushed.Ref}); second <- err }()
	time.Sleep(50 * time.Millisecond)
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the waiter that left got %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("the waiter that stayed got %v", err)
	}
	if err := w.Remove(t.Context(), pushed.Ref); err != nil {
		t.Fatal(err)
	}
	remove()
	w.proxy.Inject(fixture.Fault{Path: "/blobs/", StallAfter: 100})
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := w.Pull(ctx, PullRequest{Ref: pushed.Ref}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the last waiter got %v", err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for w.inFlight() > 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	if w.inFlight() > 0 {
		t.Error("the pull goes on without anybody")
	}
	w.nothingStaged()
}

// inFlight counts pulls that hold a place.
func (s *Store) inFlight() int { return len(s.flights.slots) }

func TestQueueBoundsPullsAndWaitersKeepTheirDeadline(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxPulls = 1 })
	slow, quick := w.push("queue/slow:1", bulky(1<<20)), w.push("queue/quick:1", small("quick"))
	w.proxy.Inject(fixture.Fault{Path: "queue/slow/blobs/", Delay: 400 * time.Millisecond})
	done := make(chan error, 1)
	go func() { _, err := w.Pull(t.Context(), PullRequest{Ref: slow.Ref}); done <- err }()
	time.Sleep(100 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := w.Pull(ctx, PullRequest{Ref: quick.Ref}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a pull in the queue got %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	w.pull(quick.Ref)
}

func TestCredentialsReachTheRegistryAndNoMessage(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("secret/image:1", small("secret"))
	const password = "canary-5e3f-p@ss/w?rd"
	accept := func(r *http.Request) bool { u, p, ok := r.BasicAuth(); return ok && u == "me" && p == password }
	w.proxy.Inject(fixture.Fault{Status: 401, Header: http.Header{"Www-Authenticate": {`Basic realm="r"`}},
		Body: `{"errors":[{"code":"UNAUTHORIZED","message":"no wrong-` + password + `"}]}`, Check: func(r *http.Request) bool { return !accept(r) }})
	base64 := "bWU6Y2FuYXJ5LTVlM2YtcEBzcy93P3Jk"
	for name, test := range map[string]struct {
		auth *Auth
		ok   bool
	}{
		"wrong":          {&Auth{Username: "me", Password: "wrong-" + password}, false},
		"password":       {&Auth{Username: "me", Password: password}, true},
		"auth field":     {&Auth{Auth: base64}, true},
		"other server":   {&Auth{Auth: base64, ServerAddress: "https://elsewhere.example"}, false},
		"right server":   {&Auth{Auth: base64, ServerAddress: "http://" + w.proxy.Addr + "/v2/"}, true},
		"auth malformed": {&Auth{Auth: "%%%" + password}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.Pull(t.Context(), PullRequest{Ref: pushed.Ref, Auth: test.auth})
			if (err == nil) != test.ok {
				t.Errorf("got %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), base64)) {
				t.Errorf("message has the secret: %v", err)
			}
			w.Remove(t.Context(), pushed.Ref)
		})
	}
}

func TestMessagesHaveNoSecretsOfURLs(t *testing.T) {
	got := redact("Get \"https://user:pw@cdn.example/blob/x?X-Amz-Signature=abc&t=1\": EOF\n Authorization: Bearer abcdefghijkl", []string{"s3cr3t"})
	if want := "Get \"https://cdn.example/blob/x\": EOF Authorization: Bearer ***"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := redact(string(bytes.Repeat([]byte("é"), 5000)), nil); len(got) > maxText+4 {
		t.Errorf("%d bytes", len(got))
	}
}
