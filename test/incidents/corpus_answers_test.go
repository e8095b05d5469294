package incidents

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// answers are what stands where a registry should, and images that are not what they
// should be.
var odd = group{
	name: "answers that no registry gives",
	options: func(*testing.T, string) harness.Options {
		return harness.Options{Config: "[image]\nmax_layer_entries = 400\n"}
	},
	incidents: []incident{
		{name: "page for signing in where the registry should be", cause: "image.page", evidence: []string{"a web page answers", "invalid character '<'"},
			inject: spoiled(fixture.Fault{Method: "GET", Path: "/manifests/", Status: 200,
				Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}, Body: "<!DOCTYPE html>\n<title>Sign in</title>\n<p>Welcome to the guest network.\n"}, false)},
		{name: "registry that redirects in a circle", cause: "image.redirect", evidence: []string{"redirect"},
			inject: spoiled(fixture.Fault{Method: "GET", Path: "/manifests/", Status: 307, Header: http.Header{"Location": {"?again=1"}}}, false)},
		{name: "token that the registry does not believe yet", cause: "image.clock", evidence: []string{"PullImage failed", "token is not valid yet"}, inject: func(w *world) {
			image := w.faulty(fixture.Fault{Method: "GET", Path: "/manifests/", Status: 401, Body: `{"errors":[{"code":"UNAUTHORIZED","message":"token is not valid yet"}]}`,
				Header: http.Header{"Content-Type": {"application/json"}, "Www-Authenticate": {`Bearer realm="http://` + w.proxy.Addr + `/token",service="registry",error="invalid_token"`}}})
			w.undo = append(w.undo, w.proxy.Inject(fixture.Fault{Path: "/token", Status: 200, Body: `{"token":"aaaaaaaaaaaaaaaa","expires_in":300}`}),
				w.proxy.Inject(fixture.Fault{Method: "GET", Path: "/v2/", Status: 401,
					Header: http.Header{"Www-Authenticate": {`Bearer realm="http://` + w.proxy.Addr + `/token",service="registry"`}}}))
			if w.pull(image) == nil {
				w.Fatal("the image was pulled")
			}
		}},
		{name: "registry whose certificate is of tomorrow", cause: "image.clock", evidence: []string{"two clocks do not agree", "not yet valid"}, inject: func(w *world) {
			s := certified(w, time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour))
			w.undo = append(w.undo, s.Close)
			w.fails(s.Listener.Addr().String() + "/test/box:1")
		}},
		{name: "registry that breaks the connection in each layer", cause: "image.tcp", evidence: []string{"PullImage failed"},
			inject: spoiled(fixture.Fault{Method: "GET", Path: "/blobs/", Truncate: 50 << 10}, false)},
		{name: "registry that has lost a layer", cause: "image.notfound", evidence: []string{"PullImage failed", "does not have it"},
			inject: spoiled(fixture.Fault{Method: "GET", Path: "/blobs/", Status: 404}, false)},
		{name: "layer of very many whiteouts", cause: "unpack.limit", evidence: []string{"400"}, inject: func(w *world) {
			var files []fixture.File
			for i := range 500 {
				files = append(files, fixture.File{Name: fmt.Sprintf(".wh.%d", i), Mode: 0o644})
			}
			w.fails(w.pushed(fixture.Image{Layers: []fixture.Layer{{Files: files}}}))
		}},
		{name: "layer that is no archive", cause: "unpack.digest", evidence: []string{"damaged", "archive"}, inject: func(w *world) {
			w.fails(w.pushed(fixture.Image{Layers: []fixture.Layer{{Tar: []byte("this is a letter and not an archive, whatever its media type says of it")}}}))
		}},
		{name: "image for another architecture", cause: "process.format", evidence: []string{"s390x"}, inject: func(w *world) {
			w.image = w.pushed(fixture.Image{Architecture: "s390x", Layers: []fixture.Layer{{Files: []fixture.File{
				{Name: "bin/"}, {Name: "bin/app", Body: foreign()}, {Name: "dev/"}, {Name: "proc/"}, {Name: "sys/"}}}}})
			if err := w.pull(w.image); err != nil {
				w.Fatal(err)
			}
			w.refused(nil, "/bin/app")
		}},
	},
}

// pushed is an image of this incident alone.
func (w *world) pushed(i fixture.Image) (ref string) {
	w.Helper()
	return harness.Must(fixture.BuildImage(w.ctx, hub.Addr, "test/"+w.pod.Metadata.Uid+":1", i))(w).Ref
}
