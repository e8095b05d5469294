package e2e

import (
	"testing"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

func TestAdministratorsDefaultsHoldForEveryContainer(t *testing.T) {
	n := start(t, harness.Options{Config: `[runtime.defaults]
capabilities = ["chown"]
env = ["ADMIN=yes", "PATH=/nowhere"]
ulimits = ["nofile=300:400"]
mounts = ["/etc/passwd:/administrators/file"]
devices = ["/dev/zero:/dev/nothing:r"]
`})
	pod := n.HostPod("defaults")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	_, c := n.run(sandbox, pod, "c", "/bin/sh", "-c", "export PATH=/bin; echo $ADMIN; ulimit -Sn; ulimit -Hn; grep CapEff /proc/self/status")
	n.stdout(pod, c, "yes\n300\n400\nCapEff:\t0000000000000001\n")
	_, c = n.run(sandbox, pod, "paths", "/bin/sh", "-c", "head -c 3 /dev/nothing | wc -c; { echo >>/administrators/file; } 2>/dev/null || echo read-only; test -s /administrators/file && echo shown")
	n.stdout(pod, c, "3\nread-only\nshown\n")
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
