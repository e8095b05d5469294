package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// installPlugin puts a test plugin called name into dir.
func installPlugin(t testing.TB, dir, name, behaviour string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nVITRINE_TEST_PLUGIN='%s' exec %s\n", behaviour, self)
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

var plugins struct {
	once sync.Once
	dir  string
	err  error
}

// referencePlugins builds the CNI reference plugins once per run, from the module.
func referencePlugins(t testing.TB) string {
	t.Helper()
	plugins.once.Do(func() {
		if plugins.dir, plugins.err = os.MkdirTemp("", "vitrine-cni-"); plugins.err != nil {
			return
		}
		args := []string{"build", "-ldflags", "-s -w", "-o", plugins.dir + "/"}
		for _, p := range []string{"main/bridge", "ipam/host-local", "main/loopback", "meta/portmap", "meta/firewall"} {
			args = append(args, "github.com/containernetworking/plugins/plugins/"+p)
		}
		cmd := exec.Command(filepath.Join(runtime.GOROOT(), "bin", "go"), args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			plugins.err = fmt.Errorf("build CNI plugins: %w: %s", err, out)
		}
	})
	if plugins.err != nil {
		t.Fatal(plugins.err)
	}
	return plugins.dir
}

// open opens a network of its own: own directories, own bridge, the reference plugins
// and bin for more. Everything it made is removed when the test ends.
func open(t testing.TB, change func(*Config)) (n *Network, bin string) {
	t.Helper()
	root := t.TempDir()
	bin = filepath.Join(root, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	config := Config{
		Dir:      filepath.Join(root, "netns"),
		CacheDir: filepath.Join(root, "cache"),
		ConfDir:  filepath.Join(root, "net.d"),
		BinDirs:  []string{bin, referencePlugins(t)},
	}
	if change != nil {
		change(&config)
	}
	n, err := New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		attached, _ := n.files.ids()
		n.stale.add(attached...)
		if err := n.GC(ctx, nil); err != nil {
			t.Errorf("clean up: %v", err)
		}
		ids, err := n.Pinned()
		for _, id := range ids {
			err = errors.Join(err, n.RemoveNamespaces(ctx, id))
		}
		if err := errors.Join(err, n.Wipe(ctx), n.Close()); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return n, bin
}

// sandbox makes namespaces for a new pod and returns its request.
func sandbox(t testing.TB, n *Network) AttachRequest {
	t.Helper()
	req, err := newSandbox(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func newSandbox(ctx context.Context, n *Network) (AttachRequest, error) {
	id := string(pod.NewID())
	paths, err := n.CreateNamespaces(ctx, NamespaceRequest{ID: id, Net: true, IPC: true, UTS: true, Hostname: "web-0"})
	return AttachRequest{ID: id, Namespace: "shop", Name: "web-0", UID: "uid-" + id[:8], NetNS: paths.Net}, err
}

// attach attaches a new pod after the change of its request.
func attach(t testing.TB, n *Network, change func(*AttachRequest)) AttachRequest {
	t.Helper()
	req := sandbox(t, n)
	if change != nil {
		change(&req)
	}
	var err error
	if req.Status, err = n.Attach(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	return req
}

// writeConf writes a conflist; plugins are JSON objects.
func writeConf(t testing.TB, n *Network, file, version, name string, plugins ...string) {
	t.Helper()
	if err := os.MkdirAll(n.config.ConfDir, 0o755); err != nil {
		t.Fatal(err)
	}
	raw := fmt.Sprintf(`{"cniVersion":%q,"name":%q,"plugins":[%s]}`, version, name, strings.Join(plugins, ","))
	path := filepath.Join(n.config.ConfDir, file)
	if err := os.WriteFile(path+".tmp", []byte(raw), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

// eventually waits up to 5 s for the condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

// sameAs waits until the census is the one before: the kernel takes its time to remove
// the last veth. It tells the difference.
func sameAs(t testing.TB, n *Network, before string) {
	t.Helper()
	var after string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if after = census(t, n); after == before {
			return
		}
	}
	had, has := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(before) {
		had[line] = true
	}
	for line := range strings.Lines(after) {
		if has[line] = true; !had[line] {
			t.Errorf("left behind: %s", line)
		}
	}
	for line := range had {
		if !has[line] {
			t.Errorf("taken away: %s", line)
		}
	}
}

// serve answers every connection to port inside the namespace ("" is the host's) with
// the text, until the test ends.
func serve(t testing.TB, netns, address, text string) net.Addr {
	t.Helper()
	var l net.Listener
	if err := inNetNS(netns, func() (err error) {
		var config net.ListenConfig
		l, err = config.Listen(t.Context(), "tcp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, text)
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr()
}

// ask connects from inside the namespace and returns what it is told.
func ask(netns, address string) (string, error) {
	var said []byte
	err := inNetNS(netns, func() error {
		c, err := net.DialTimeout("tcp", address, 2*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * time.Second))
		said, err = io.ReadAll(c)
		return err
	})
	return string(said), err
}

// mustAsk fails the test unless the answer is the one wanted.
func mustAsk(t testing.TB, netns, address, want string) {
	t.Helper()
	if got, err := ask(netns, address); err != nil || got != want {
		t.Errorf("connecting to %s said %q, %v; want %q", address, got, err, want)
	}
}

// counters are the packets that rules have seen.
var counters = regexp.MustCompile(`counter packets [0-9]+ bytes [0-9]+|\[[0-9]+:[0-9]+\]`)

// census lists what attachments leave on a host.
func census(t testing.TB, n *Network) string {
	t.Helper()
	var out strings.Builder
	command := func(name string, args ...string) {
		raw, err := exec.Command(name, args...).CombinedOutput()
		fmt.Fprintf(&out, "== %s %v %v\n", name, args, err)
		for line := range strings.Lines(string(raw)) {
			if !strings.HasPrefix(line, "#") { // iptables-save tells the time
				out.WriteString(counters.ReplaceAllString(line, ""))
			}
		}
	}
	command("iptables-save")
	command("ip6tables-save")
	command("nft", "list", "ruleset")
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		fmt.Fprintln(&out, "link", link.Name)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, n.config.Dir) {
			out.WriteString(line)
		}
	}
	for _, dir := range []string{n.config.Dir, filepath.Join(n.config.CacheDir, "attachments"), filepath.Join(n.config.CacheDir, "results"), n.builtin.leaseDir()} {
		filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && !info.IsDir() && filepath.Base(path) != "lock" && !strings.HasPrefix(filepath.Base(path), "last_reserved") {
				fmt.Fprintln(&out, path)
			}
			return nil
		})
	}
	return out.String()
}
