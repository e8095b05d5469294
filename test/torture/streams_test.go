package torture

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/vitrine-runtime/vitrine/test/criclient"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// streams uses exec, attach and port-forward once each, over a transport chosen at
// random. The container echoes its standard input and serves port 7777.
func streams(ctx context.Context, cri *harness.CRI, sandbox, id string) error {
	transport := []criclient.Transport{criclient.SPDY, criclient.WebSocket}[rand.N(2)]
	out, err := cri.ExecStream(ctx, transport, id, "in\n", "/bin/sh", "-c", "cat; exit 4")
	if err != nil || out.Stdout != "in\n" || out.Exit != 4 {
		return fmt.Errorf("exec over %s: %+v, %w", transport, out, err)
	}
	if got, err := cri.AttachOnce(ctx, transport, id, "attached"); err != nil || got != "attached" {
		return fmt.Errorf("attach over %s: %q, %w", transport, got, err)
	}
	if got, err := cri.Echo(ctx, transport, sandbox, 7777, "forwarded"); err != nil || got != "forwarded" {
		return fmt.Errorf("port-forward over %s: %q, %w", transport, got, err)
	}
	return nil
}
