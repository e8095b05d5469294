package e2e

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// criu is a program that works on this host's kernel; a kernel on which none does skips
// the test with criu's own words.
func criu(t *testing.T) string {
	t.Helper()
	path := filepath.Join(os.Getenv(harness.BinEnv), "criu/criu") // where the binaries are prebuilt, it lies beside them
	if os.Getenv(harness.BinEnv) == "" {
		cmd := exec.Command(filepath.Join(harness.Must(harness.Root())(t), "test/criu"))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("test/criu: %v", err)
		}
		path = strings.TrimSpace(string(out))
	}
	if out, err := exec.Command(path, "check").CombinedOutput(); err != nil {
		t.Skipf("criu check: %v: %s", err, out)
	}
	return path
}

// withCriu is a node on which containers can be checkpointed, natively: whether an OCI
// runtime can do it is a matter of how it was built, and the one that can has its own test.
func withCriu(t *testing.T, env ...string) *node {
	t.Helper()
	n := start(t, harness.Options{Config: fmt.Sprintf("[runtime]\ncriu_path = %q\n", criu(t)), Handler: harness.NativeHandler, Env: env, LogLevel: "info"})
	n.ctx = harness.Context(t, 8*time.Minute) // for busy machines
	return n
}

// counting is a program that counts on its standard output, and does as it is told by files.
const counting = `trap 'exit 7' TERM; rm /bin/payload; echo kept >/kept; i=0
while :; do echo $i; i=$((i+1)); sleep 0.1; done`

// counter starts it and returns when it has counted to n.
func (n *node) counter(sandbox string, pod *runtime.PodSandboxConfig, name string, to int) (string, *runtime.ContainerConfig) {
	n.Helper()
	id, c := n.run(sandbox, pod, name, "/bin/sh", "-c", counting)
	n.counted(pod, c, to)
	return id, c
}

// counted waits until the container has counted to at least to, checks that it left no
// number out, and returns the first and the last in its log.
func (n *node) counted(pod *runtime.PodSandboxConfig, c *runtime.ContainerConfig, to int) (first, last int) {
	n.Helper()
	deadline := time.Now().Add(harness.Scale(60 * time.Second))
	for {
		log, _ := harness.ReadLog(harness.LogPath(pod, c))
		lines := strings.Split(strings.TrimSuffix(string(log.Stdout), "\n"), "\n")
		for i, line := range lines {
			number, err := strconv.Atoi(line)
			if err != nil && line != "" {
				n.Fatalf("%s says %q", c.Metadata.Name, line)
			}
			if i == 0 {
				first = number
			} else if number != last+1 {
				n.Fatalf("%s: %d after %d", c.Metadata.Name, number, last)
			}
			last = number
		}
		if len(log.Stdout) > 0 && last >= to {
			return first, last
		}
		if time.Now().After(deadline) {
			n.Fatalf("%s has counted to %d, not to %d; stderr %q", c.Metadata.Name, last, to, log.Stderr)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// parts reads an archive: names to contents, those of criu's images as lengths only.
func parts(t testing.TB, path string) map[string]string {
	t.Helper()
	f := harness.Must(os.Open(path))(t)
	defer f.Close()
	found := map[string]string{}
	for archive := tar.NewReader(f); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = string(harness.Must(io.ReadAll(archive))(t))
	}
}

func TestCheckpointOfARunningContainerIsWholeAndTheContainerGoesOn(t *testing.T) {
	n := withCriu(t)
	pod := n.Pod("counts")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, c := n.counter(sandbox, pod, "counter", 3)
	location := filepath.Join(t.TempDir(), "counter.tar")
	ctx, trace := harness.Traced(n.ctx)
	if _, err := n.cri.CheckpointContainer(ctx, &runtime.CheckpointContainerRequest{ContainerId: id, Location: location, Timeout: 100}); err != nil {
		t.Fatal(err)
	}
	_, last := n.counted(pod, c, 0)
	n.counted(pod, c, last+3) // it goes on, and no number was left out

	if info := harness.Must(os.Stat(location))(t); info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the archive is %v", info.Mode())
	}
	got := parts(t, location)
	var config struct{ ID, Name, RootfsImageName string }
	n.must(json.Unmarshal([]byte(got["config.dump"]), &config))
	if config.ID != id || config.Name != "counter" || config.RootfsImageName == "" {
		t.Errorf("config.dump is %+v", config)
	}
	var spec struct{ Annotations map[string]string }
	n.must(json.Unmarshal([]byte(got["spec.dump"]), &spec))
	if spec.Annotations["io.kubernetes.pod.uid"] != pod.Metadata.Uid || spec.Annotations["io.kubernetes.cri-o.Metadata"] != `{"attempt":0,"name":"counter"}` {
		t.Errorf("annotations of spec.dump are %v", spec.Annotations)
	}
	if got["deleted.files"] != "[\n  \"bin/payload\"\n]" {
		t.Errorf("deleted.files is %q", got["deleted.files"])
	}
	if !strings.Contains(got["container.log"], " stdout F 3\n") {
		t.Errorf("container.log is %q", got["container.log"])
	}
	for _, name := range []string{"checkpoint/inventory.img", "checkpoint/pages-1.img", "checkpoint/pstree.img", "dump.log", "stats-dump", "rootfs-diff.tar"} {
		if got[name] == "" {
			t.Errorf("the archive has no %s, only %v", name, slices.Sorted(maps.Keys(got)))
		}
	}
	var spans []string
	for _, s := range harness.Must(n.Trace(n.ctx, trace))(t).Spans {
		spans = append(spans, s.Name)
	}
	for _, step := range []string{"lifecycle.pause", "lifecycle.dump", "lifecycle.diff", "lifecycle.resume", "lifecycle.archive"} {
		if !slices.Contains(spans, step) {
			t.Errorf("the trace has no span %s, only %v", step, spans)
		}
	}
	n.must(n.cri.Stop(n.ctx, id, 20))
	if end := harness.Must(n.cri.Status(n.ctx, id))(t); end.ExitCode != 7 {
		t.Errorf("exit code %d, want 7", end.ExitCode)
	}
	// What has ended has no processes to write down.
	other := filepath.Join(filepath.Dir(location), "other.tar")
	_, err := n.cri.CheckpointContainer(n.ctx, &runtime.CheckpointContainerRequest{ContainerId: id, Location: other})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("checkpoint of an ended container: %v", err)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
	if left := harness.Must(os.ReadDir(filepath.Dir(location)))(t); len(left) != 1 {
		t.Errorf("left beside the archive: %v", left)
	}
}

// A checkpoint that takes longer than it may, or fails, leaves no file and no paused container.
func TestCheckpointThatFailsLeavesARunningContainerAndNoFile(t *testing.T) {
	n := withCriu(t, "VITRINE_FAULTS=lifecycle.dump=sleep(5s)")
	pod := n.Pod("slow")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, c := n.counter(sandbox, pod, "counter", 1)
	dir := t.TempDir()
	_, err := n.cri.CheckpointContainer(n.ctx, &runtime.CheckpointContainerRequest{ContainerId: id, Location: filepath.Join(dir, "none/x.tar")})
	if err == nil || !strings.Contains(err.Error(), "step archive") {
		t.Errorf("a checkpoint into no directory: %v", err)
	}
	_, last := n.counted(pod, c, 0)
	n.counted(pod, c, last+3)
	_, err = n.cri.CheckpointContainer(n.ctx, &runtime.CheckpointContainerRequest{ContainerId: id, Location: filepath.Join(dir, "late.tar"), Timeout: 3})
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "step dump") {
		t.Errorf("a checkpoint that takes too long: %v", err)
	}
	_, last = n.counted(pod, c, 0)
	n.counted(pod, c, last+3)
	if left := harness.Must(os.ReadDir(dir))(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	// The daemon dies while the container is paused: the next one lets it go on.
	n.Options.Env = []string{"VITRINE_FAULTS=lifecycle.dump=kill(1)"}
	harness.Must(n.Restart(n.ctx))(t)
	if _, err = n.cri.CheckpointContainer(n.ctx, &runtime.CheckpointContainerRequest{ContainerId: id, Location: filepath.Join(dir, "dead.tar")}); err == nil {
		t.Error("a daemon that was killed has answered")
	}
	n.Options.Env = nil
	harness.Must(n.Restart(n.ctx))(t)
	_, last = n.counted(pod, c, 0)
	n.counted(pod, c, last+3)
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

func TestCheckpointWithoutCriuIsRefusedInOneLine(t *testing.T) {
	n := start(t, harness.Options{Config: "[runtime]\ncriu_path = \"/nonexistent/criu\"\n", Handler: harness.NativeHandler})
	pod := n.HostPod("plain")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	id, _ := n.run(sandbox, pod, "c", "sleep", "1000")
	location := filepath.Join(t.TempDir(), "c.tar")
	_, err := n.cri.CheckpointContainer(n.ctx, &runtime.CheckpointContainerRequest{ContainerId: id, Location: location})
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "/nonexistent/criu") {
		t.Errorf("without criu: %v", err)
	}
	said := harness.Must(n.Get("/v1/check"))(t)
	if !strings.Contains(said, `"criu"`) || !strings.Contains(said, "/nonexistent/criu") {
		t.Errorf("the check says of criu: %s", said)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
