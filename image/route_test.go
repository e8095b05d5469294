package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
	"github.com/vitrine-runtime/vitrine/test/fixture"
)

func TestRequestForATokenIsAStepOfItsOwn(t *testing.T) {
	const delay = time.Second
	w := newWorld(t)
	pushed := w.push("auth/image:1", small("auth"))
	refuse := false
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		time.Sleep(delay)
		if refuse {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		json.NewEncoder(rw).Encode(map[string]string{"token": "bear-this"})
	}))
	defer server.Close()
	w.proxy.Inject(fixture.Fault{Status: 401, Header: http.Header{"Www-Authenticate": {fmt.Sprintf(`Bearer realm=%q,service="r"`, server.URL+"/token")}},
		Check: func(r *http.Request) bool { return r.Header.Get("Authorization") != "Bearer bear-this" }})
	for _, refuse = range []bool{false, true} {
		var err error
		spans := traced(t, func(ctx context.Context) { _, err = w.Pull(ctx, PullRequest{Ref: pushed.Ref}) })
		if refuse != errors.Is(err, pod.ErrDenied) || !refuse && err != nil {
			t.Fatalf("refused %v: %v", refuse, err)
		}
		auth, manifest := find(spans, "image.auth"), find(spans, "image.manifest")
		if len(auth) != 1 || len(manifest) != 1 || auth[0].Parent.SpanID() != manifest[0].SpanContext.SpanID() {
			t.Fatalf("refused %v: %d spans of auth, %d of the manifest", refuse, len(auth), len(manifest))
		}
		if took := auth[0].EndTime.Sub(auth[0].StartTime); took < delay || took > manifest[0].EndTime.Sub(manifest[0].StartTime) {
			t.Errorf("refused %v: auth took %s", refuse, took)
		}
		if (auth[0].Status.Code == codes.Error) != refuse {
			t.Errorf("refused %v: auth ended with %v", refuse, auth[0].Status)
		}
		if err := w.Remove(t.Context(), pushed.Ref); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRouteTellsWhatTheBytesCameOver(t *testing.T) {
	for want, start := range map[string]func(*httptest.Server){
		"http":  (*httptest.Server).Start,
		"https": (*httptest.Server).StartTLS,
		"h2":    func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() },
	} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "layer") }))
		start(server)
		spans := traced(t, func(ctx context.Context) {
			ctx, span := telemetry.Start(ctx, "image.layer.download")
			defer span.End(nil)
			for range 2 { // the second time over the connection that is there
				following, route := follow(ctx, func() {})
				req, err := http.NewRequestWithContext(following, http.MethodGet, server.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set(registryHeader, "registry/2.0")
				res, err := server.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				route.end(span, nil)
				if route.transport != want || route.endpoint != server.Listener.Addr().String() {
					t.Errorf("%s: over %s to %s", want, route.transport, route.endpoint)
				}
			}
		})
		server.Close()
		if len(find(spans, "image.auth")) != 0 {
			t.Errorf("%s: a request to the registry is told as one for a token", want)
		}
	}
}

// TestWaitingIsNeitherDecompressionNorWriting: a slow network makes neither look slow.
func TestWaitingIsNeitherDecompressionNorWriting(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("slow/image:1", bulky(2<<20))
	defer w.proxy.Inject(fixture.Fault{Path: "/blobs/sha256:", Rate: 512 << 10})()
	spans := traced(t, func(ctx context.Context) {
		if _, err := w.Pull(ctx, PullRequest{Ref: pushed.Ref}); err != nil {
			t.Fatal(err)
		}
	})
	applied := find(spans, "image.layer.apply")
	if len(applied) != 1 {
		t.Fatalf("%d layers", len(applied))
	}
	figures := map[string]float64{}
	for _, kv := range applied[0].Attributes {
		figures[string(kv.Key)] = kv.Value.AsFloat64()
	}
	whole := applied[0].EndTime.Sub(applied[0].StartTime).Seconds()
	for _, key := range []string{string(telemetry.KeyDecompressSeconds), string(telemetry.KeyWriteSeconds)} {
		if s := figures[key]; s <= 0 || s > whole/2 {
			t.Errorf("%s is %v of %v s", key, s, whole)
		}
	}
}
