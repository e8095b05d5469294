package lifecycle

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

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
