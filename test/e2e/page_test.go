package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// The page shows the pod, its start as a waterfall, and what ended it; also of a pod
// that is gone. Nobody but this machine gets an answer.
func TestPageShowsThePodsAndTheirStarts(t *testing.T) {
	listener := harness.Must(net.Listen("tcp", "127.0.0.1:0"))(t) // to find a free port
	address := listener.Addr().String()
	listener.Close()
	n := start(t, harness.Options{Config: "page_listen = \"" + address + "\"\n"})
	pod := n.Pod("shown")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, _ := n.run(sandbox, pod, "app", "/bin/sh", "-c", "echo giving up; exit 9")
	harness.Must(n.cri.WaitExit(n.ctx, id))(t)

	look := func(path string, contains ...string) {
		t.Helper()
		deadline := time.Now().Add(harness.Scale(20 * time.Second)) // monitors report late
		for {
			text := get(t, "http://"+address+path, "")
			missing := slices.DeleteFunc(slices.Clone(contains), func(part string) bool { return strings.Contains(text, part) })
			if len(missing) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not say %q:\n%s", path, missing, text)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	look("/", "test/shown", "app: exited (9 Error)", `href="pod?subject=test%2fshown"`)
	subject := "/pod?" + url.Values{"subject": {"test/shown"}}.Encode()
	look(subject, "exited with 9", "giving up", `id="lives"`, "RunPodSandbox", "network.cni bridge ADD", "StartContainer")
	if text := get(t, "http://"+address+"/", "evil.example"); !strings.Contains(text, "localhost only") {
		t.Errorf("a foreign name is answered: %s", text)
	}
	browse(t, n.ctx, "http://"+address+subject, "exited with 9")
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	look("/", "None.")
	look(subject, "exited with 9", "was removed", "RunPodSandbox")
	n.nothingLeft()
}

// browse has a real browser draw the page, where there is one.
func browse(t *testing.T, ctx context.Context, address, want string) {
	t.Helper()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Log("without chromium the page is not drawn")
		return
	}
	if dir := os.Getenv(screenshotsEnv); dir != "" {
		shot := exec.CommandContext(ctx, browser, append(browserFlags(t), "--window-size=1200,1600", "--screenshot="+filepath.Join(dir, "pod.png"), address)...)
		if out, err := shot.CombinedOutput(); err != nil {
			t.Fatalf("chromium: %v\n%s", err, out)
		}
	}
	cmd := exec.CommandContext(ctx, browser, append(browserFlags(t), "--enable-logging=stderr", "--dump-dom", address)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium: %v\n%s", err, errs.String())
	}
	if !strings.Contains(string(out), want) || !strings.Contains(string(out), "</svg>") {
		t.Errorf("the browser shows:\n%s", out)
	}
	if strings.Contains(errs.String(), "Content Security Policy") {
		t.Errorf("the page breaks its own policy:\n%s", errs.String())
	}
}

// screenshotsEnv names a directory for pictures of the pages; `make screenshots` sets it.
const screenshotsEnv = "VITRINE_SCREENSHOTS"

// browserFlags are for a browser of this test alone that talks to nobody else.
func browserFlags(t *testing.T) []string {
	return []string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir=" + filepath.Join(t.TempDir(), "profile")}
}

func get(t *testing.T, address, host string) string {
	t.Helper()
	request := harness.Must(http.NewRequest(http.MethodGet, address, nil))(t)
	request.Host = host
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body := harness.Must(io.ReadAll(io.LimitReader(answer.Body, 1<<20)))(t)
	return string(body)
}
