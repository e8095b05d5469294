// Package observe lets the real parts of an observability stack look at the real
// daemon: an OpenTelemetry Collector, built from its modules (collector/), and
// Prometheus. It is slower to build than the rest and has its own make target,
// test-observe.
package observe

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// hub is the registry that all tests of this binary pull from.
var hub *harness.Hub

func TestMain(m *testing.M) {
	os.Exit(harness.RunWithHub(&hub, m.Run))
}

// node is a daemon with a client and the test image.
type node struct {
	testing.TB
	*harness.Daemon
	cri   *harness.CRI
	ctx   context.Context
	image string
	last  string // the trace of the call that traced was for
}

// traced is a context for one call, whose trace is last.
func (n *node) traced() context.Context {
	ctx, id := harness.Traced(n.ctx)
	n.last = id
	return ctx
}

func start(t testing.TB, o harness.Options) *node {
	t.Helper()
	if o.RegistriesConf == "" {
		o.RegistriesConf = fixture.RegistriesConf(hub.Addr)
	}
	d := harness.Run(t, o)
	n := &node{TB: t, Daemon: d, cri: d.Client(t), ctx: harness.Context(t, 5*time.Minute)}
	n.image = harness.Must(n.cri.Pull(n.ctx, hub.Image))(t)
	return n
}

func (n *node) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

// patience is how long a condition may take on a machine that does much else.
var patience = harness.Scale(2 * time.Minute)

// eventually waits for a condition; missing says what is still wanted, empty when
// nothing is.
func eventually(t testing.TB, what string, missing func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		left := missing()
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen within %s: %s", what, patience, left)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
