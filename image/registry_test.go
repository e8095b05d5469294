package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/fixture"
)

func TestIndexGivesThisMachinesImageWhereverItStands(t *testing.T) {
	w := newWorld(t)
	for _, schema2 := range []bool{false, true} {
		arm, mine := small(fmt.Sprint("arm", schema2)), small(fmt.Sprint("mine", schema2))
		arm.Architecture = map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
		arm.Schema2, mine.Schema2 = schema2, schema2
		var built []fixture.Built
		for _, img := range []fixture.Image{arm, mine} {
			b, err := fixture.Build(img)
			if err != nil {
				t.Fatal(err)
			}
			built = append(built, b)
		}
		name := fmt.Sprintf("multi/arch:%v", schema2)
		pushed, err := fixture.PushIndex(t.Context(), w.reg.Addr, name, schema2, 1, built...)
		if err != nil {
			t.Fatal(err)
		}
		pushed.Ref = w.proxy.Addr + "/" + name
		img := w.pull(pushed.Ref)
		if img.ID != pushed.ID || len(img.RepoDigests) != 2 {
			t.Errorf("pulled %.12s with digests %v", img.ID, img.RepoDigests)
		}
		for _, d := range []string{pushed.Digest.String(), built[1].Manifest.Digest.String()} {
			byDigest := w.proxy.Addr + "/multi/arch@" + d
			if got, err := w.Status(t.Context(), byDigest); err != nil || got.ID != img.ID {
				t.Errorf("Status by %s: %v", d, err)
			}
			if got := w.pull(byDigest); got.ID != img.ID {
				t.Errorf("pull by %s gave %.12s", d, got.ID)
			}
		}
		onlyArm, err := fixture.PushIndex(t.Context(), w.reg.Addr, "multi/arm:1", schema2, 0, built[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Pull(t.Context(), PullRequest{Ref: onlyArm.Ref}); !errors.Is(err, pod.ErrNotFound) {
			t.Errorf("an image for other machines only: %v", err)
		}
	}
}

func TestTagThatMovesLeavesTheOldImageByItsDigest(t *testing.T) {
	w := newWorld(t)
	old := w.pull(w.push("moving/tag:latest", small("old")).Ref)
	pushed := w.push("moving/tag:latest", small("new"))
	now := w.pull(strings.TrimSuffix(pushed.Ref, ":latest")) // no tag means latest
	if now.ID == old.ID || now.ID != pushed.ID {
		t.Fatalf("the pull gave %.12s", now.ID)
	}
	got, err := w.Status(t.Context(), old.ID)
	if err != nil || len(got.RepoTags) != 0 || len(got.RepoDigests) != 1 || got.RepoDigests[0] != old.RepoDigests[0] {
		t.Errorf("the old image is %+v, %v", got, err)
	}
	before := len(w.proxy.Requests("/blobs/"))
	w.pull(pushed.Ref)
	if n := len(w.proxy.Requests("/blobs/")) - before; n != 0 {
		t.Errorf("%d blobs were fetched for what is here", n)
	}
}

func TestMirrorsShortNamesAndAliases(t *testing.T) {
	w := newWorld(t)
	w.push("library/tool:1", small("tool"))
	dead := "127.0.0.1:1"
	conf := fmt.Sprintf(`unqualified-search-registries = [%q]
short-name-mode = "enforcing"
[[registry]]
location = %q
insecure = true
[[registry]]
prefix = "mirrored.example/library"
location = "mirrored.invalid/library"
[[registry.mirror]]
location = %q
insecure = true
[[registry.mirror]]
location = "%s/library"
insecure = true
[[registry]]
location = "blocked.example"
blocked = true
[aliases]
"nick" = "%s/library/tool"
`, w.proxy.Addr, w.proxy.Addr, dead+"/library", w.proxy.Addr, w.proxy.Addr)
	s := openStore(t, w.config(func(c *Config) {
		c.RegistriesConf = filepath.Join(t.TempDir(), "registries.conf")
		if err := os.WriteFile(c.RegistriesConf, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
	}))
	for ref, tag := range map[string]string{
		"library/tool:1":                  w.proxy.Addr + "/library/tool:1",
		"nick:1":                          w.proxy.Addr + "/library/tool:1",
		"mirrored.example/library/tool:1": "mirrored.example/library/tool:1",
	} {
		img, err := s.Pull(t.Context(), PullRequest{Ref: ref})
		if err != nil {
			t.Errorf("pull of %s: %v", ref, err)
			continue
		}
		if got, err := s.Status(t.Context(), ref); err != nil || got.ID != img.ID || !strings.Contains(fmt.Sprint(got.RepoTags), tag) {
			t.Errorf("Status of %s: %v, %v", ref, got.RepoTags, err)
		}
		if err := s.Remove(t.Context(), ref); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Pull(t.Context(), PullRequest{Ref: "blocked.example/x:1"}); err == nil || !strings.Contains(err.Error(), "blocked") {
		t.Errorf("a blocked registry: %v", err)
	}
}

// A mirror that has the manifest and not the layers, or loses them on the way, is passed
// over when that is found out.
func TestMirrorThatFailsALayerIsPassedOver(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("behind/image:1", bulky(4<<20))
	layer := func(r *http.Request) bool { return !strings.Contains(r.URL.Path, pushed.ID) } // not the configuration
	var struck atomic.Bool
	for name, faults := range map[string][]fixture.Fault{
		"has none": {{Path: "/blobs/", Status: 404, Header: http.Header{"Content-Type": {"application/json"}}, Body: `{"errors":[{"code":"BLOB_UNKNOWN"}]}`, Check: layer}},
		"is ill":   {{Path: "/blobs/", Status: 500, Check: layer}},
		"dies": {
			{Path: "/blobs/", Truncate: 1 << 20, Times: 1, Check: func(r *http.Request) bool { return layer(r) && !struck.Swap(true) }},
			{Status: 503, Check: func(*http.Request) bool { return struck.Load() }},
		},
	} {
		t.Run(name, func(t *testing.T) {
			mirror, err := fixture.StartProxy(w.reg.Addr)
			if err != nil {
				t.Fatal(err)
			}
			defer mirror.Close()
			for _, f := range faults {
				mirror.Inject(f)
			}
			s := openStore(t, w.config(func(c *Config) {
				c.RegistriesConf = filepath.Join(t.TempDir(), "registries.conf")
				if err := os.WriteFile(c.RegistriesConf, fmt.Appendf(nil, `[[registry]]
prefix = "front.example/behind"
location = "%s/behind"
insecure = true
[[registry.mirror]]
location = "%s/behind"
insecure = true
`, w.reg.Addr, mirror.Addr), 0o600); err != nil {
					t.Fatal(err)
				}
			}))
			img, err := s.Pull(t.Context(), PullRequest{Ref: "front.example/behind/image:1"})
			if err != nil || img.ID != pushed.ID {
				t.Errorf("pulled %.12s, %v", img.ID, err)
			}
			if len(mirror.Requests("/blobs/")) < 2 {
				t.Error("the mirror was not asked for the layer")
			}
		})
	}
}

func TestEditedRegistriesConfIsObeyed(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("edited/image:1", small("edited"))
	if err := os.WriteFile(w.Store.config.RegistriesConf, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Pull(t.Context(), PullRequest{Ref: pushed.Ref}); !errors.Is(err, pod.ErrRegistryUnavailable) || errorClass(err) != "tls" {
		t.Errorf("plain HTTP without leave: %v", err)
	}
	dropIns := w.Store.config.RegistriesConf + ".d"
	if err := errors.Join(os.Mkdir(dropIns, 0o700), os.WriteFile(dropIns+"/1.conf", []byte(fixture.RegistriesConf(w.proxy.Addr)), 0o600)); err != nil {
		t.Fatal(err)
	}
	w.pull(pushed.Ref)
}

func TestShortNameWithoutConfigurationMeansDockerHub(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.RegistriesConf = filepath.Join(t.TempDir(), "absent.conf") })
	for ref, want := range map[string]string{
		"busybox":                 "docker.io/library/busybox:latest",
		"busybox:1":               "docker.io/library/busybox:1",
		"me/app":                  "docker.io/me/app:latest",
		"localhost/app":           "localhost/app:latest",
		"quay.example:5000/a/b:t": "quay.example:5000/a/b:t",
		"docker://x.example/a":    "x.example/a:latest",
		"x.example/a:t@sha256:" + strings.Repeat("a", 64): "x.example/a@sha256:" + strings.Repeat("a", 64),
	} {
		names, err := candidates(w.system(), ref)
		if err != nil || len(names) != 1 || names[0].String() != want {
			t.Errorf("%s means %v, %v; want %s", ref, names, err, want)
		}
	}
}

func TestSignaturePolicyRefusesBeforeAnyLayerIsFetched(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("signed/image:1", small("policy"))
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	write(dir+"/policy.json", `{"default":[{"type":"reject"}]}`)
	write(dir+"/lenient.json", `{"default":[{"type":"insecureAcceptAnything"}]}`)
	for _, plain := range []bool{false, true} {
		s := openStore(t, w.config(func(c *Config) {
			c.SignaturePolicy, c.SignaturePolicyDir, c.PlainPull = dir+"/policy.json", dir, plain
		}))
		_, err := s.Pull(t.Context(), PullRequest{Ref: pushed.Ref})
		if !errors.Is(err, pod.ErrSignatureValidationFailed) || !strings.HasPrefix(err.Error(), "SignatureValidationFailed: ") {
			t.Errorf("got %v", err)
		}
		if n := len(w.proxy.Requests("GET /v2/signed/image/blobs/")); n != 0 {
			t.Errorf("%d blobs were fetched", n)
		}
	}
	s := openStore(t, w.config(func(c *Config) { c.SignaturePolicy, c.SignaturePolicyDir = dir+"/policy.json", dir }))
	if _, err := s.Pull(t.Context(), PullRequest{Ref: pushed.Ref, Namespace: "lenient"}); err != nil {
		t.Errorf("with the namespace's own policy: %v", err)
	}
	if _, err := Open(t.Context(), w.config(func(c *Config) { c.SignaturePolicy = dir + "/absent.json" })); !errors.Is(err, pod.ErrInvalid) {
		t.Errorf("a policy that is configured and absent: %v", err)
	}
}

// tokenServer gives a bearer token for an identity token, as registries with OAuth2 do.
func tokenServer(t *testing.T, refresh, token string) string {
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.FormValue("grant_type") != "refresh_token" || r.FormValue("refresh_token") != refresh {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		json.NewEncoder(rw).Encode(map[string]string{"access_token": token, "token": token})
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestTokensOfTheRequestAreUsed(t *testing.T) {
	w := newWorld(t)
	pushed := w.push("token/image:1", small("token"))
	realm := tokenServer(t, "refresh-me", "bear-this")
	w.proxy.Inject(fixture.Fault{Status: 401, Header: http.Header{"Www-Authenticate": {fmt.Sprintf(`Bearer realm=%q,service="r"`, realm+"/token")}},
		Check: func(r *http.Request) bool { return r.Header.Get("Authorization") != "Bearer bear-this" }})
	for name, test := range map[string]struct {
		auth *Auth
		ok   bool
	}{
		"no token":             {nil, false},
		"registry token":       {&Auth{RegistryToken: "bear-this"}, true},
		"wrong registry token": {&Auth{RegistryToken: "bear-that"}, false},
		"identity token":       {&Auth{IdentityToken: "refresh-me"}, true},
		"wrong identity token": {&Auth{IdentityToken: "refresh-it"}, false},
	} {
		_, err := w.Pull(t.Context(), PullRequest{Ref: pushed.Ref, Auth: test.auth})
		if (err == nil) != test.ok || err != nil && !errors.Is(err, pod.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
		if err := w.Remove(t.Context(), pushed.Ref); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImagesThatAPatternNamesArePinned(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Pinned = []string{"*pinned/exact:1", "*word*"} })
	for name, want := range map[string]bool{"pinned/exact:1": true, "pinned/exact:2": false, "a/wordy:1": true, "a/other:1": false} {
		if img := w.pull(w.push(name, small(name)).Ref); img.Pinned != want {
			t.Errorf("%s is pinned: %v", name, img.Pinned)
		}
	}
	for _, bad := range []string{"", "*", "**"} {
		if _, err := (Config{Root: "/a", RunRoot: "/b", Pinned: []string{bad}}).complete(); !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("pattern %q: %v", bad, err)
		}
	}
}

func TestLayerOnAnotherParentIsTakenFromDisk(t *testing.T) {
	w := newWorld(t)
	shared := bulky(1 << 20).Layers[0]
	one := fixture.Image{Layers: []fixture.Layer{small("a").Layers[0], shared}}
	two := fixture.Image{Layers: []fixture.Layer{small("b").Layers[0], shared}}
	w.pull(w.push("rebase/one:1", one).Ref)
	before := len(w.proxy.Requests("GET /v2/rebase/two/blobs/"))
	img := w.pull(w.push("rebase/two:1", two).Ref)
	if n := len(w.proxy.Requests("GET /v2/rebase/two/blobs/")) - before; n != 2 {
		t.Errorf("%d blobs were fetched, want the configuration and one layer", n)
	}
	if info, err := os.Stat(w.layerDir(img.layers[0]) + "/diff/noise"); err != nil || info.Size() != 1<<20 {
		t.Errorf("content of the shared layer: %v, %v", info, err)
	}
}
