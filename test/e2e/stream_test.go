package e2e

import (
	"strings"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/criclient"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

var transports = []criclient.Transport{criclient.SPDY, criclient.WebSocket}

// streams checks exec, attach and port-forward against the pod's web container.
func streams(t *testing.T, n *node, sandbox, web string, pod *runtime.PodSandboxConfig) {
	echo := harness.Container(pod, "echo", n.image, "/bin/sh", "-c", "/bin/payload serve 7777 & exec cat")
	echo.Stdin = true
	echoID := harness.Must(n.cri.Run(n.ctx, sandbox, pod, echo))(t)
	for _, transport := range transports {
		t.Run("exec over "+string(transport), func(t *testing.T) {
			out := harness.Must(n.cri.ExecStream(n.ctx, transport, web, "typed\n", "/bin/sh", "-c", "cat; echo err >&2; exit 5"))(t)
			if out != (harness.Output{Stdout: "typed\n", Stderr: "err\n", Exit: 5}) {
				t.Errorf("got %+v", out)
			}
		})
		t.Run("attach over "+string(transport), func(t *testing.T) {
			if got := harness.Must(n.cri.AttachOnce(n.ctx, transport, echoID, "hello "+string(transport)))(t); got != "hello "+string(transport) {
				t.Errorf("got %q", got)
			}
		})
		t.Run("port-forward over "+string(transport), func(t *testing.T) {
			message := strings.Repeat("0123456789abcdef", 64<<10)
			if got := harness.Must(n.cri.Echo(n.ctx, transport, sandbox, 7777, message))(t); got != message {
				t.Errorf("%d bytes came back of %d", len(got), len(message))
			}
		})
	}
	n.must(n.cri.Stop(n.ctx, echoID, 0))
	n.must(n.cri.Remove(n.ctx, echoID))
}
