package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

func TestLogLimitComesFromTheAdministratorAndWhereAllowedFromThePod(t *testing.T) {
	n := start(t, harness.Options{Config: `
[runtime]
annotations = ["io.vitrine.log.policy", "io.vitrine.log.rate"]
[runtime.log]
policy = "drop"
rate = 20000
`})
	pod := n.HostPod("limits")
	pod.Annotations = map[string]string{
		"io.vitrine.log.policy/free": "none", "io.vitrine.log.rate/free": "0",
		"io.vitrine.log.burst": "99999999", // not on the list
	}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	const lines, size = 20000, 100
	for name, limited := range map[string]bool{"bound": true, "free": false} {
		id, c := n.run(sandbox, pod, name, "/bin/payload", "lines", "20000", "100")
		harness.Must(n.cri.WaitExit(n.ctx, id))(t)
		log := harness.Must(harness.ReadLog(harness.LogPath(pod, c)))(t)
		var info struct {
			Exit struct{ LogBytes, LogLimited, LogDropped int }
		}
		verbose := harness.Must(n.cri.ContainerStatus(n.ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true}))(t)
		if err := json.Unmarshal([]byte(verbose.GetInfo()["info"]), &info); err != nil {
			t.Fatal(err)
		}
		if x := info.Exit; x.LogBytes != lines*size || x.LogLimited > 0 != limited || x.LogDropped != 0 {
			t.Errorf("%s: the exit says %+v", name, x)
		}
		kept, marks := 0, 0
		for line := range strings.Lines(string(log.Stdout)) {
			if strings.HasPrefix(line, "[vitrine: ") {
				marks++
			} else {
				kept += len(line)
			}
		}
		if kept+info.Exit.LogLimited != lines*size || marks > 0 != limited {
			t.Errorf("%s: %d bytes in the log and %d left out of %d, %d markers", name, kept, info.Exit.LogLimited, lines*size, marks)
		}
	}
	bad := n.HostPod("bad")
	bad.Annotations = map[string]string{"io.vitrine.log.rate": "a lot"}
	other := harness.Must(n.cri.RunPod(n.ctx, bad))(t)
	if _, err := n.cri.Create(n.ctx, other, bad, harness.Container(bad, "c", n.image, "/bin/true")); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "io.vitrine.log.rate") {
		t.Errorf("a rate of %q: %v", "a lot", err)
	}
	n.must(n.cri.RemovePod(n.ctx, other))
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
