package e2e

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

func TestRotationLosesDoublesAndSplitsNothing(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("rotated")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	const lines = 400000
	id, c := n.run(sandbox, pod, "writer", "/bin/payload", "lines", fmt.Sprint(lines), "100", "200000")
	path := harness.LogPath(pod, c)
	var files []string
	for i := 0; ; i++ {
		s := harness.Must(n.cri.Status(n.ctx, id))(t)
		if s.State != runtime.ContainerState_CONTAINER_RUNNING {
			break
		}
		rotated := fmt.Sprintf("%s.%d", path, i)
		n.must(os.Rename(path, rotated))
		files = append(files, rotated)
		if _, err := n.cri.ReopenContainerLog(n.ctx, &runtime.ReopenContainerLogRequest{ContainerId: id}); err != nil {
			if s := harness.Must(n.cri.Status(n.ctx, id))(t); s.State == runtime.ContainerState_CONTAINER_RUNNING {
				t.Fatal(err)
			}
			n.must(os.Rename(rotated, path)) // it ended meanwhile: kubelet puts the file back
			files = files[:i]
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	files = append(files, path)
	if len(files) < 10 {
		t.Fatalf("only %d files: the test rotated nothing", len(files))
	}
	for _, f := range files[:len(files)-1] {
		if raw := harness.Must(os.ReadFile(f))(t); len(raw) > 0 && raw[len(raw)-1] != '\n' {
			t.Errorf("%s does not end with a whole record", f)
		}
	}
	log := harness.Must(harness.ReadLog(files...))(t)
	checkLines(t, log.Stdout, lines)
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestOutputOfEveryShapeComesBackByteByByte(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("shapes")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	for name, text := range map[string]string{
		"empty-lines": "\n\n\nx\n\n",
		"crlf":        "a\r\nb\r\n",
		"nul":         "a\x00b\n\x00\n",
		"not-utf-8":   "\xff\xfe\x80\n",
		"ansi":        "\x1b[31mred\x1b[0m\n",
		"no-newline":  "last",
		"long":        strings.Repeat("x", 4096) + "\n" + strings.Repeat("y", 16383) + "\n" + strings.Repeat("z", 16384) + "\n" + strings.Repeat("w", 16385) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := harness.Container(pod, name, n.image, "/bin/payload", "raw", hex.EncodeToString([]byte(text)), "1")
			id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, c))(t)
			harness.Must(n.cri.WaitExit(n.ctx, id))(t)
			log := harness.Must(harness.ReadLog(harness.LogPath(pod, c)))(t)
			if got := strings.TrimSuffix(string(log.Stdout), "\n"); got != strings.TrimSuffix(text, "\n") {
				t.Errorf("got %.200q, want %.200q", got, text)
			}
		})
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestStreamsKeepTheirOrder(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("both")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, c := n.run(sandbox, pod, "both", "/bin/payload", "both", "5000")
	harness.Must(n.cri.WaitExit(n.ctx, id))(t)
	log := harness.Must(harness.ReadLog(harness.LogPath(pod, c)))(t)
	checkLines(t, log.Stdout, 5000)
	if !bytes.Equal(log.Stdout, log.Stderr) {
		t.Errorf("stderr differs: %d and %d bytes", len(log.Stdout), len(log.Stderr))
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestReopenThatFailsLosesNothing(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("reopen")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, c := n.run(sandbox, pod, "writer", "/bin/payload", "lines", "3000", "20", "2000")
	path := harness.LogPath(pod, c)
	rotated := path + ".1"
	n.must(os.Rename(path, rotated))
	n.must(os.Mkdir(path, 0o755)) // in the way of the new file
	_, err := n.cri.ReopenContainerLog(n.ctx, &runtime.ReopenContainerLogRequest{ContainerId: id})
	if err == nil {
		t.Error("a directory is in the log's place and the log was reopened")
	}
	if message := status.Convert(err).Message(); !strings.Contains(message, "directory") {
		t.Errorf("the error does not name the cause: %s", message)
	}
	n.must(os.Remove(path)) // still empty
	n.must(os.Rename(rotated, path))
	harness.Must(n.cri.WaitExit(n.ctx, id))(t)
	log := harness.Must(harness.ReadLog(harness.LogPath(pod, c)))(t)
	checkLines(t, log.Stdout, 3000)
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
