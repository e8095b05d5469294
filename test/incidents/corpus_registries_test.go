package incidents

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// bearer puts a token service before the registry, whose tokens it does not believe.
func (w *world) bearer(token, challenge string) (image string) {
	realm := `Bearer realm="http://` + w.proxy.Addr + `/token",service="registry"`
	image = w.faulty(fixture.Fault{Method: "GET", Path: "/manifests/", Status: 401, Header: http.Header{"Www-Authenticate": {realm + challenge}}})
	w.undo = append(w.undo, w.proxy.Inject(fixture.Fault{Path: "/token", Status: 200, Body: fmt.Sprintf(`{"token":%q,"expires_in":300}`, token)}),
		w.proxy.Inject(fixture.Fault{Method: "GET", Path: "/v2/", Status: 401, Header: http.Header{"Www-Authenticate": {realm}}}))
	return image
}

// jwt is a token that begins to be good at a moment (RFC 7519); nobody looks at its signature.
func jwt(from, until time.Time) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"ES256","typ":"JWT"}`) + "." + part(fmt.Sprintf(`{"iss":"auth","nbf":%d,"exp":%d,"iat":%d}`, from.Unix(), until.Unix(), from.Unix())) + "." + part("no signature")
}

// registries are what else stands in a pull's way.
var registries = group{
	name: "ways to a registry",
	incidents: []incident{
		{name: "token that is not valid yet", cause: "image.clock", evidence: []string{"not valid before"}, inject: func(w *world) {
			w.fails(w.bearer(jwt(time.Now().Add(2*time.Hour), time.Now().Add(3*time.Hour)), `,error="invalid_token"`))
		}},
		{name: "token whose time is over when it comes", cause: "image.clock", evidence: []string{"not valid after"}, inject: func(w *world) {
			w.fails(w.bearer(jwt(time.Now().Add(-3*time.Hour), time.Now().Add(-2*time.Hour)), `,error="invalid_token"`))
		}},
		{name: "registry whose clock is an hour behind", cause: "image.clock", evidence: []string{"clock"}, inject: func(w *world) {
			realm := `Bearer realm="http://` + w.proxy.Addr + `/token",service="registry"`
			past := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
			image := w.faulty(fixture.Fault{Method: "GET", Path: "/manifests/", Status: 401, Header: http.Header{"Date": {past}, "Www-Authenticate": {realm}}})
			w.undo = append(w.undo, w.proxy.Inject(fixture.Fault{Path: "/token", Status: 200, Body: `{"token":"aaaaaaaaaaaaaaaa","expires_in":300}`}),
				w.proxy.Inject(fixture.Fault{Method: "GET", Path: "/v2/", Status: 401, Header: http.Header{"Date": {past}, "Www-Authenticate": {realm}}}))
			w.fails(image)
		}},
		{name: "service of tokens that does not listen", cause: "image.tcp", evidence: []string{"127.0.0.1:1"}, inject: func(w *world) {
			realm := `Bearer realm="http://127.0.0.1:1/token",service="registry"`
			image := w.faulty(fixture.Fault{Method: "GET", Path: "/v2/", Status: 401, Header: http.Header{"Www-Authenticate": {realm}}})
			w.fails(image)
		}},
		{name: "index without an image for this node", cause: "image.platform", evidence: []string{"this machine"}, inject: func(w *world) {
			index := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,"digest":"` + digest.FromString("{}").String() + `","platform":{"architecture":"s390x","os":"linux"}}]}`
			w.fails(w.faulty(fixture.Fault{Method: "GET", Path: "/manifests/", Status: 200, Header: http.Header{"Content-Type": {"application/vnd.oci.image.index.v1+json"}}, Body: index}))
		}},
		{name: "manifest that is cut off", cause: "image.malformed", evidence: []string{"manifest"},
			inject: spoiled(fixture.Fault{Method: "GET", Path: "/manifests/", Status: 200, Header: http.Header{"Content-Type": {"application/vnd.oci.image.manifest.v1+json"}}, Body: `{"schemaVersion":2,`}, false)},
		{name: "artifact that is no image", cause: "image.unsupported", evidence: []string{"helm"}, inject: func(w *world) {
			body := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","size":2,"digest":"` + digest.FromString("{}").String() + `"},"layers":[{"mediaType":"application/vnd.cncf.helm.chart.content.v1.tar+gzip","size":2,"digest":"` + digest.FromString("{}").String() + `"}]}`
			image := w.faulty(fixture.Fault{Method: "GET", Path: "/manifests/", Status: 200, Header: http.Header{"Content-Type": {"application/vnd.oci.image.manifest.v1+json"}}, Body: body})
			w.undo = append(w.undo, w.proxy.Inject(fixture.Fault{Method: "GET", Path: "/blobs/", Status: 200, Body: "{}"}))
			w.fails(image)
		}},
		{name: "name of an image in capitals", cause: "image.invalid", evidence: []string{"Shop/App"}, inject: func(w *world) { w.fails(w.proxy.Addr + "/Shop/App:1") }},
		{name: "registry of a certificate that nobody has signed", cause: "image.tls", evidence: []string{"unknown authority"}, inject: func(w *world) {
			s := certified(w, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
			w.undo = append(w.undo, s.Close)
			w.fails(s.Listener.Addr().String() + "/test/box:1")
		}},
		{name: "registry over its quota in the middle of a pull", cause: "image.ratelimit", evidence: []string{"429"},
			inject: spoiled(fixture.Fault{Method: "GET", Path: "/blobs/", Status: 429, Header: http.Header{"Retry-After": {"1"}}}, false)},
	},
}

// behind a proxy that is not there.
var proxied = group{
	name: "proxy that does not listen",
	options: func(*testing.T, string) harness.Options {
		return harness.Options{Env: []string{"HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY="}}
	},
	before: func(*node) {},
	incidents: []incident{
		{name: "proxy that does not listen", cause: "image.proxy", evidence: []string{"proxy", "127.0.0.1:1"}, inject: func(w *world) { w.fails("registry.example/app:1") }},
	},
}
