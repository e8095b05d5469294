package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/criclient"
	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// semver is what kubelet parses and shows as the node's container runtime.
var semver = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

func TestNodeAnswersWhatKubeletAsksOfIt(t *testing.T) {
	n := start(t, harness.Options{})
	if v := harness.Must(n.cri.Version(n.ctx, &runtime.VersionRequest{Version: "0.1.0"}))(t); v.RuntimeApiVersion != "v1" || v.RuntimeName != "vitrine" || !semver.MatchString(v.RuntimeVersion) {
		t.Errorf("version: %v", v)
	}
	harness.Must(n.cri.UpdateRuntimeConfig(n.ctx, &runtime.UpdateRuntimeConfigRequest{
		RuntimeConfig: &runtime.RuntimeConfig{NetworkConfig: &runtime.NetworkConfig{PodCidr: "10.1.0.0/16"}},
	}))(t)
	harness.Must(n.cri.RuntimeConfig(n.ctx, &runtime.RuntimeConfigRequest{}))(t)
	if s := harness.Must(n.cri.RuntimeServiceClient.Status(n.ctx, &runtime.StatusRequest{Verbose: true}))(t); !json.Valid([]byte(s.Info["info"])) {
		t.Errorf("verbose status: %v", s.Info)
	}
	if s := harness.Must(n.cri.RuntimeServiceClient.Status(n.ctx, &runtime.StatusRequest{}))(t); len(s.Info) != 0 {
		t.Errorf("a status that is not verbose: %v", s.Info)
	}
	image := &runtime.ImageSpec{Image: n.image}
	if s := harness.Must(n.cri.ImageStatus(n.ctx, &runtime.ImageStatusRequest{Image: image, Verbose: true}))(t); s.Image.GetId() != n.image || !json.Valid([]byte(s.Info["info"])) {
		t.Errorf("image status: %v", s)
	}
	for ref, want := range map[string]int{n.image: 1, hub.Image: 1, hub.Addr + "/no/such:1": 0} {
		filter := &runtime.ImageFilter{Image: &runtime.ImageSpec{Image: ref}}
		if list := harness.Must(n.cri.ListImages(n.ctx, &runtime.ListImagesRequest{Filter: filter}))(t); len(list.Images) != want {
			t.Errorf("%s: %d images are listed, want %d", ref, len(list.Images), want)
		}
		streamed := 0
		for _, r := range all(t, harness.Must(n.cri.StreamImages(n.ctx, &runtime.StreamImagesRequest{Filter: filter}))(t)) {
			streamed += len(r.Images)
		}
		if streamed != want {
			t.Errorf("%s: %d images are streamed, want %d", ref, streamed, want)
		}
	}
	fs := harness.Must(n.cri.ImageFsInfo(n.ctx, &runtime.ImageFsInfoRequest{}))(t)
	for kind, list := range map[string][]*runtime.FilesystemUsage{"image": fs.ImageFilesystems, "container": fs.ContainerFilesystems} {
		if len(list) != 1 {
			t.Fatalf("%d %s file systems", len(list), kind)
		}
		if _, err := os.Stat(list[0].GetFsId().GetMountpoint()); err != nil || list[0].Timestamp == 0 {
			t.Errorf("%s file system: %v, %v", kind, list[0], err)
		}
	}
	if fs.ImageFilesystems[0].GetUsedBytes().GetValue() == 0 {
		t.Error("the image takes no room")
	}
	_, err := n.cri.PullImage(n.ctx, &runtime.PullImageRequest{Image: &runtime.ImageSpec{Image: hub.Image, RuntimeHandler: "warp"}})
	if err == nil || !strings.Contains(err.Error(), "warp") {
		t.Errorf("a pull for an unknown handler: %v", err)
	}
	n.nothingLeft()
}

// What Status says of a handler is what its runtime says of itself.
func TestHandlersTellWhatTheirRuntimesCanDo(t *testing.T) {
	const runc = "/usr/sbin/runc"
	raw, err := exec.Command(runc, "features").Output()
	if err != nil {
		t.Fatalf("the Debian package runc is missing (test/packages installs it): %v", err)
	}
	n := start(t, harness.Options{Config: fmt.Sprintf("[runtime.handlers.runc]\npath = %q\n[runtime.handlers.broken]\npath = \"/bin/false\"\n", runc)})
	found := map[string]*runtime.RuntimeHandlerFeatures{}
	for _, h := range harness.Must(n.cri.RuntimeServiceClient.Status(n.ctx, &runtime.StatusRequest{}))(t).RuntimeHandlers {
		found[h.Name] = h.Features
	}
	var told features.Features
	n.must(json.Unmarshal(raw, &told))
	rro := slices.Contains(told.MountOptions, "rro")
	idmap := told.Linux.MountExtensions != nil && told.Linux.MountExtensions.IDMap != nil && *told.Linux.MountExtensions.IDMap.Enabled
	for name, want := range map[string][2]bool{"": {true, true}, "native": {true, true}, "runc": {rro, idmap}, "broken": {}} {
		if f := found[name]; f == nil || f.RecursiveReadOnlyMounts != want[0] || f.UserNamespaces != want[1] {
			t.Errorf("handler %q: %v, want recursive read-only mounts %v, user namespaces %v", name, f, want[0], want[1])
		}
	}
	pod := mapped(n.HostPod("refused"))
	_, err = n.cri.RunPodSandbox(n.ctx, &runtime.RunPodSandboxRequest{Config: pod, RuntimeHandler: "broken"})
	refused(t, err, codes.Unimplemented, "broken")
	plain := n.HostPod("plain")
	sandbox := harness.Must(n.cri.RunPodSandbox(n.ctx, &runtime.RunPodSandboxRequest{Config: plain, RuntimeHandler: "broken"}))(t).PodSandboxId
	c := harness.Container(plain, "c", n.image, "true")
	c.Mounts = []*runtime.Mount{{ContainerPath: "/m", HostPath: n.Dir, Readonly: true, RecursiveReadOnly: true}}
	_, err = n.cri.Create(n.ctx, sandbox, plain, c)
	if text := status.Convert(err).Message(); !strings.HasPrefix(text, "RROUnsupported") {
		t.Errorf("a recursive read-only mount with a handler that has none: %q", text)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// Credentials reach the registry in the form that each kind of them has.
func TestPullCarriesEveryKindOfCredentials(t *testing.T) {
	var mu sync.Mutex // guards seen
	var seen []string
	var wantToken atomic.Bool
	back := harness.Must(url.Parse("http://" + hub.Addr))(t)
	proxy := httputil.NewSingleHostReverseProxy(back)
	var front *httptest.Server
	front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth := r.Header.Get("Authorization")
		if r.URL.Path == "/token" {
			r.ParseForm()
			mu.Lock()
			seen = append(seen, "identity "+r.Form.Get("refresh_token"))
			mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"token":"exchanged","access_token":"exchanged"}`)
			return
		}
		if auth == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			if wantToken.Load() {
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="here"`, front.URL))
			}
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mu.Lock()
		seen = append(seen, auth)
		mu.Unlock()
		r.Header.Del("Authorization")
		r.Host = hub.Addr
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	addr := strings.TrimPrefix(front.URL, "http://")
	policies := t.TempDir()
	if err := os.WriteFile(filepath.Join(policies, "strict.json"), []byte(`{"default":[{"type":"reject"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	n := start(t, harness.Options{RegistriesConf: fixture.RegistriesConf(hub.Addr, addr), Config: fmt.Sprintf("[image]\nsignature_policy_dir = %q\n", policies)})
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:secret"))
	_, path, _ := strings.Cut(hub.Image, "/")
	for name, tc := range map[string]struct {
		auth *runtime.AuthConfig
		want string
	}{
		"user and password": {&runtime.AuthConfig{Username: "me", Password: "secret", ServerAddress: addr}, basic},
		"encoded":           {&runtime.AuthConfig{Auth: base64.StdEncoding.EncodeToString([]byte("me:secret"))}, basic},
		"registry token":    {&runtime.AuthConfig{RegistryToken: "t0ken"}, "Bearer t0ken"},
		"identity token":    {&runtime.AuthConfig{Username: "me", IdentityToken: "id3ntity"}, "identity id3ntity"},
	} {
		t.Run(name, func(t *testing.T) {
			mu.Lock()
			seen = nil
			mu.Unlock()
			wantToken.Store(tc.auth.IdentityToken != "" || tc.auth.RegistryToken != "")
			_, err := n.cri.PullImage(n.ctx, &runtime.PullImageRequest{
				Image: &runtime.ImageSpec{Image: addr + "/" + path, Annotations: map[string]string{"a": "b"}}, Auth: tc.auth, SandboxConfig: n.HostPod("for"),
			})
			if err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if !strings.Contains(strings.Join(seen, "\n"), tc.want) {
				t.Errorf("the registry saw %q, want %q", seen, tc.want)
			}
		})
	}
	t.Run("policy of the pod's namespace", func(t *testing.T) {
		pod := n.HostPod("strict")
		pod.Metadata.Namespace = "strict"
		_, err := n.cri.PullImage(n.ctx, &runtime.PullImageRequest{Image: &runtime.ImageSpec{Image: addr + "/" + path}, SandboxConfig: pod})
		if text := status.Convert(err).Message(); !strings.HasPrefix(text, "SignatureValidationFailed") {
			t.Errorf("an image that the policy rejects: %q", text)
		}
	})
	t.Run("of another registry", func(t *testing.T) {
		mu.Lock()
		seen = nil
		mu.Unlock()
		wantToken.Store(false)
		n.cri.PullImage(n.ctx, &runtime.PullImageRequest{ // this registry takes anything
			Image: &runtime.ImageSpec{Image: addr + "/" + path}, Auth: &runtime.AuthConfig{Username: "me", Password: "secret", ServerAddress: "registry.example"},
		})
		mu.Lock()
		defer mu.Unlock()
		if len(seen) == 0 || slices.Contains(seen, basic) {
			t.Errorf("the registry saw %q, and has been given another one's credentials", seen)
		}
	})
	n.must(n.cri.RemoveAll(n.ctx))
}

func TestTerminalsAndStandardInputOfSessions(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("terminals")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	c := harness.Container(pod, "shell", n.image, "cat")
	c.Tty, c.Stdin = true, true
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
	t.Run("exec with a terminal", func(t *testing.T) {
		r := harness.Must(n.cri.RuntimeServiceClient.Exec(n.ctx, &runtime.ExecRequest{ContainerId: id, Cmd: []string{"/bin/sh", "-c", "test -t 0 && echo terminal"}, Tty: true, Stdin: true, Stdout: true}))(t)
		var out bytes.Buffer
		exit, err := criclient.Run(n.ctx, criclient.WebSocket, r.Url, criclient.Streams{Stdin: strings.NewReader(""), Stdout: &out, TTY: true})
		if err != nil || exit != 0 || out.String() != "terminal\r\n" {
			t.Errorf("%q, exit %d, %v", out.String(), exit, err)
		}
	})
	t.Run("standard input of a command", func(t *testing.T) {
		r := harness.Must(n.cri.RuntimeServiceClient.Exec(n.ctx, &runtime.ExecRequest{ContainerId: id, Cmd: []string{"cat"}, Stdin: true, Stdout: true}))(t)
		var out bytes.Buffer
		if _, err := criclient.Run(n.ctx, criclient.WebSocket, r.Url, criclient.Streams{Stdin: strings.NewReader("typed"), Stdout: &out}); err != nil || out.String() != "typed" {
			t.Errorf("%q, %v", out.String(), err)
		}
	})
	t.Run("a terminal has one output", func(t *testing.T) {
		_, err := n.cri.Attach(n.ctx, &runtime.AttachRequest{ContainerId: id, Tty: true, Stdout: true, Stderr: true})
		refused(t, err, codes.InvalidArgument, "stderr")
	})
	t.Run("attach to a terminal", func(t *testing.T) {
		r := harness.Must(n.cri.Attach(n.ctx, &runtime.AttachRequest{ContainerId: id, Tty: true, Stdin: true, Stdout: true}))(t)
		var out bytes.Buffer
		if _, err := criclient.Run(n.ctx, criclient.WebSocket, r.Url, criclient.Streams{Stdin: strings.NewReader("typed\n\x04"), Stdout: &out, TTY: true}); err != nil {
			t.Error(err)
		}
		if !strings.Contains(out.String(), "typed\r\n") {
			t.Errorf("got %q", out.String())
		}
	})
	t.Run("stdin once", func(t *testing.T) {
		once := harness.Container(pod, "once", n.image, "cat")
		once.Stdin, once.StdinOnce = true, true
		id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, once))(t)
		if got := harness.Must(n.cri.AttachOnce(n.ctx, criclient.WebSocket, id, "only line"))(t); got != "only line" {
			t.Errorf("got %q", got)
		}
		if end := harness.Must(n.cri.WaitExit(n.ctx, id))(t); end.ExitCode != 0 {
			t.Errorf("after the one client has gone: exit code %d", end.ExitCode)
		}
	})
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
