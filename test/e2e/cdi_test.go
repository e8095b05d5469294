package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

func TestCDIDeviceBringsNodeMountEnvironmentAndHook(t *testing.T) {
	dir := t.TempDir()
	shared := filepath.Join(dir, "shared")
	hooked := filepath.Join(dir, "hooked")
	if err := os.WriteFile(shared, []byte("from the vendor\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	script(t, filepath.Join(dir, "hook"), fmt.Sprintf("cat >/dev/null; echo $1 >> %s", hooked))
	spec := fmt.Sprintf(`{
  "cdiVersion": "0.6.0", "kind": "vendor.test/gpu",
  "devices": [{"name": "zero", "containerEdits": {
    "env": ["GPU=zero"],
    "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/zero", "permissions": "rw"}],
    "mounts": [{"hostPath": %q, "containerPath": "/gpu/shared", "options": ["ro", "nosuid", "bind"]}],
    "hooks": [{"hookName": "createRuntime", "path": %q, "args": ["hook", "ran"]}]
  }}, {"name": "one", "containerEdits": {"env": ["SECOND=one"]}}]
}`, shared, filepath.Join(dir, "hook"))
	specs := filepath.Join(dir, "cdi")
	if err := os.Mkdir(specs, 0o755); err != nil {
		t.Fatal(err)
	}
	n := start(t, harness.Options{Config: fmt.Sprintf("[runtime]\ncdi_spec_dirs = [%q]\n", specs)})
	pod := n.HostPod("cdi")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c",
		"echo $GPU $SECOND; cat /gpu/shared; head -c 4 /dev/gpu0 | wc -c; echo x >/gpu/shared || echo read-only")
	c.CDIDevices = []*runtime.CDIDevice{{Name: "vendor.test/gpu=zero"}}
	c.Annotations = map[string]string{"cdi.k8s.io/plugin_one": "vendor.test/gpu=one"}

	// Without its file the device cannot be had, and nothing is left of the attempt.
	_, err := n.cri.Create(n.ctx, sandbox, pod, c)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "vendor.test/gpu=zero") || !strings.Contains(err.Error(), specs) {
		t.Errorf("a device without a specification: %v", err)
	}
	bad := harness.Container(pod, "bad", n.image, "/bin/true")
	bad.CDIDevices = []*runtime.CDIDevice{{Name: "gpu0"}}
	if _, err := n.cri.Create(n.ctx, sandbox, pod, bad); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "gpu0") {
		t.Errorf("a name that is not qualified: %v", err)
	}

	// The file appears while the daemon runs.
	n.must(os.WriteFile(filepath.Join(specs, "vendor.json"), []byte(spec), 0o644))
	ctx, trace := harness.Traced(n.ctx)
	id := harness.Must(n.cri.Create(ctx, sandbox, pod, c))(t)
	n.must(n.cri.Start(n.ctx, id))
	if end := harness.Must(n.cri.WaitExit(n.ctx, id))(t); end.ExitCode != 0 {
		t.Errorf("exit code %d, %s", end.ExitCode, end.Message)
	}
	n.stdout(pod, c, "zero one\nfrom the vendor\n4\nread-only\n")
	if got, err := os.ReadFile(hooked); err != nil || string(got) != "ran\n" {
		t.Errorf("the hook wrote %q, %v", got, err)
	}
	if spans := strings.Join(names(harness.Must(n.Trace(n.ctx, trace))(t).Spans), " "); !strings.Contains(spans, "cdi") {
		t.Errorf("no span of the injection in %s", spans)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
