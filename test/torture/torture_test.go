// Package torture holds the long runs: thousands of pods, hundreds of dead daemons,
// millions of lines. Their sizes are flags; without flags they are as small as an
// ordinary test. `make torture` is the full form.
package torture

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

var (
	cycles   = flag.Int("cycles", 24, "pods to run and remove")
	parallel = flag.Int("parallel", 8, "pods at a time")
	kills    = flag.Int("kills", 5, "deaths of the daemon")
	standing = flag.Int("standing", 50, "pods that run through all deaths")
	points   = flag.Int("points", 8, "steps at which the daemon dies")
	oomKills = flag.Int("oomkills", 40, "processes to OOM-kill")
	lines    = flag.Int("lines", 300_000, "lines of log")
	rate     = flag.Int("rate", 170_000, "lines per second, so that rotation and deaths happen meanwhile")
)

// hub is the registry that all runs pull from.
var hub *harness.Hub

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(harness.RunWithHub(&hub, m.Run))
}

// start runs a daemon and pulls the test image.
func start(t *testing.T) (_ *harness.Daemon, image string) {
	t.Helper()
	d := harness.Run(t, harness.Options{RegistriesConf: fixture.RegistriesConf(hub.Addr), LogLevel: "info"})
	return d, harness.Must(d.Client(t).Pull(harness.Context(t, time.Minute), hub.Image))(t)
}
