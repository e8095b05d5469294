package lifecycle

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestResolvConfFollowsTheRequest(t *testing.T) {
	sb := pod.Sandbox{Config: pod.SandboxConfig{PodSandboxConfig: &runtime.PodSandboxConfig{DnsConfig: &runtime.DNSConfig{
		Servers: []string{"10.0.0.10", "fd00::a"}, Searches: []string{"shop.svc", "svc"}, Options: []string{"ndots:5"},
	}}}}
	got, err := resolvConf(sb)
	want := "search shop.svc svc\nnameserver 10.0.0.10\nnameserver fd00::a\noptions ndots:5\n"
	if err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	sb.Config.DnsConfig.Options = []string{"ndots:5\nnameserver 6.6.6.6"}
	if _, err := resolvConf(sb); !errors.Is(err, pod.ErrInvalid) {
		t.Errorf("a value that adds a line gave %v, want ErrInvalid", err)
	}
	sb.Config.DnsConfig = nil
	host, _ := os.ReadFile("/etc/resolv.conf")
	if got, err := resolvConf(sb); err != nil || got != string(host) {
		t.Errorf("no DNS configuration must give the host's: %q, %v", got, err)
	}
}

func TestLogPathStaysInsideItsDirectory(t *testing.T) {
	for name, want := range map[string]string{"app/0.log": "/logs/app/0.log", "": ""} {
		if got, err := logPath("/logs", name); err != nil || got != want {
			t.Errorf("%q gave %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"../escape", "/etc/passwd", "a/../../b"} {
		if _, err := logPath("/logs", name); !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("%q gave %v, want ErrInvalid", name, err)
		}
	}
}

func TestFilesOfAHostileImageStayInsideItsRoot(t *testing.T) {
	root := t.TempDir()
	os.Mkdir(filepath.Join(root, "etc"), 0o755)
	os.Symlink("/etc/shadow", filepath.Join(root, "etc/passwd")) // must resolve inside root, where it is missing
	f, err := openInRoot(root, "etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, _ := f.Read(make([]byte, 1)); n != 0 {
		t.Error("the host's file was opened")
	}
	os.Symlink("../../../../outside", filepath.Join(root, "vol"))
	if err := makeVolumes(root, map[string]struct{}{"/vol/data": {}}); err == nil {
		t.Error("a volume below a link that leaves the root was made")
	}
	if err := makeVolumes(root, map[string]struct{}{"/../../data": {}, "/": {}}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, "data")); err != nil {
		t.Errorf("volume was not made inside the root: %v", err)
	}
}

func TestHooksAreChosenByEveryConditionThatIsSet(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"10-all.json":   `{"version":"1.0.0","hook":{"path":"/bin/a"},"when":{"always":true},"stages":["createRuntime"]}`,
		"20-shell.json": `{"version":"1.0.0","hook":{"path":"/bin/b"},"when":{"commands":["sh$"],"annotations":{"^trace$":"on"}},"stages":["createContainer","poststop"]}`,
		"readme.txt":    `not a hook`,
	} {
		os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
	}
	files, err := readHooks(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("read %d hooks, %v", len(files), err)
	}
	h := host{hookFiles: files}
	s := &specs.Spec{Process: &specs.Process{Args: []string{"/bin/sh"}}, Annotations: map[string]string{"trace": "off"}}
	if got := h.hooks(s); len(got.CreateRuntime) != 1 || len(got.CreateContainer) != 0 {
		t.Errorf("one condition fails, yet got %+v", got)
	}
	s.Annotations["trace"] = "on"
	if got := h.hooks(s); len(got.CreateContainer) != 1 || len(got.Poststop) != 1 {
		t.Errorf("both conditions hold, yet got %+v", got)
	}
	os.WriteFile(filepath.Join(dir, "30-bad.json"), []byte(`{"version":"2.0.0"}`), 0o644)
	if _, err := readHooks(dir); err == nil || !strings.Contains(err.Error(), "30-bad.json") {
		t.Errorf("a hook that cannot be understood gave %v", err)
	}
}
