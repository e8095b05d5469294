package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// modes are what a daemon's telemetry can meet. The second one without a collector is
// the control: what it differs by from the first is the machine's doing.
var modes = []string{modeOff, modeControl, modeOn, modeAbsent, mode503, modeSilent}

const (
	modeOff     = "off"
	modeControl = "off again"
	modeOn      = "on"
	modeAbsent  = "absent" // nobody listens
	mode503     = "503"
	modeSilent  = "silent" // takes the connection and never answers
)

// compareTelemetry starts pods on daemons that differ in what their telemetry meets. All
// of them live at once; in each round every one has one pod, in an order that is drawn
// anew, so that a mood of the machine meets all alike and nobody always follows the same
// neighbour. Differences are those within rounds. Beside the time of a start stands the
// CPU time that the daemon used from the begin of its turn to that of its next one, with
// what it did in the background meanwhile: a clock that other work on the machine hardly
// moves.
func compareTelemetry(ctx context.Context, o options) (err error) {
	hub, err := harness.StartHub(ctx)
	if err != nil {
		return err
	}
	defer hub.Close()
	endpoints, closeAll, err := collectors()
	if err != nil {
		return err
	}
	defer closeAll()
	chosen := modes
	if len(o.only) > 0 {
		chosen = o.only
	}
	targets := make([]*target, len(chosen))
	for i, mode := range chosen {
		if !slices.Contains(modes, mode) {
			return fmt.Errorf("no telemetry %q; there are %s", mode, strings.Join(modes, ", "))
		}
		opts := harness.Options{RegistriesConf: fixture.RegistriesConf(hub.Addr), LogLevel: "info"}
		if endpoint := endpoints[mode]; endpoint != "" {
			opts.Env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}
		}
		d, e := harness.NewDaemon(opts)
		if e != nil {
			return e
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		if err := d.Start(ctx); err != nil {
			return err
		}
		t := &target{name: mode, Instance: d.Instance}
		if t.cri, err = d.CRI(); err != nil {
			return err
		}
		if err := t.prepare(ctx, hub); err != nil {
			return err
		}
		targets[i] = t
	}
	ups, cpus, err := turns(ctx, targets, o.rounds*o.pods)
	if err != nil {
		return err
	}
	return printTelemetry(os.Stdout, chosen, ups, cpus)
}

// turns runs rounds of one pod on each target and returns, by target and round, how long
// a pod took to be up and how much CPU time its daemon used, in milliseconds.
func turns(ctx context.Context, targets []*target, rounds int) (ups, cpus [][]float64, err error) {
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	ups, cpus = make([][]float64, len(targets)), make([][]float64, len(targets))
	used := make([]time.Duration, len(targets))
	const warm = 2 // rounds: filters are compiled, caches filled
	for round := range rounds + warm + 1 {
		for _, i := range random.Perm(len(targets)) {
			t := targets[i]
			now, err := cpuClock(t.daemon)
			if err != nil {
				return nil, nil, fmt.Errorf("telemetry %s: %w", t.name, err)
			}
			if round > warm {
				cpus[i] = append(cpus[i], float64(now-used[i])/float64(time.Millisecond))
			}
			if used[i] = now; round == rounds+warm { // the last round only reads what the one before it cost
				continue
			}
			one, err := podCycle(ctx, t, t.HostPod("bench"))
			if err != nil {
				return nil, nil, fmt.Errorf("telemetry %s: %w", t.name, err)
			}
			for _, s := range one.steps {
				if s.name == "pod up" && round >= warm {
					ups[i] = append(ups[i], float64(s.took)/float64(time.Millisecond))
				}
			}
		}
	}
	return ups, cpus, nil
}

// printTelemetry prints a line per mode, with its differences to the daemons without a
// collector and with one that takes everything, where these took part.
func printTelemetry(w io.Writer, names []string, ups, cpus [][]float64) error {
	fmt.Fprintf(w, "pod up, host network, one at a time, %d pods each, one per round; differences within rounds, with 95 %% intervals\n\n", len(ups[0]))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head, bases := "telemetry\tp50 ms\tp99 ms\tdaemon's CPU ms", []int{}
	for _, base := range []string{modeOff, modeOn} {
		if i := slices.Index(names, base); i >= 0 {
			bases = append(bases, i)
			head += fmt.Sprintf("\tp50 to %[1]s\tp99 to %[1]s\tCPU to %[1]s", base)
		}
	}
	fmt.Fprintln(tw, head)
	for i, name := range names {
		fmt.Fprintf(tw, "%s\t%.2f\t%.2f\t%.2f", name, quantile(ups[i], 0.5), quantile(ups[i], 0.99), mean(cpus[i]))
		for _, b := range bases {
			if b == i {
				fmt.Fprint(tw, "\t\t\t")
				continue
			}
			fmt.Fprintf(tw, "\t%s\t%s\t%s", difference(ups[i], ups[b], at(0.5)), difference(ups[i], ups[b], at(0.99)), difference(cpus[i], cpus[b], mean))
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

// collectors are the endpoints of the modes that have one.
func collectors() (endpoints map[string]string, closeAll func(), err error) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody reads
	if err != nil {
		return nil, nil, err
	}
	absent, err := freeAddress()
	if err != nil {
		silent.Close()
		return nil, nil, err
	}
	takes := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	ill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	return map[string]string{modeOn: takes.URL, modeAbsent: "http://" + absent, mode503: ill.URL, modeSilent: "http://" + silent.Addr().String()},
		func() { takes.Close(); ill.Close(); silent.Close() }, nil
}

// cpuClock is the CPU time of a process so far, of threads that have ended as well, to
// the nanosecond (clock_getcpuclockid(3): the clock of a process is made of its pid).
func cpuClock(pid int) (time.Duration, error) {
	const scheduler = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &ts); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// resamples is how often a difference is computed anew from rounds drawn by chance.
const resamples = 2000

// at is a figure of values: their quantile.
func at(q float64) func([]float64) float64 {
	return func(values []float64) float64 { return quantile(values, q) }
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// difference is by how many percent a figure of a lies above that of b, with the
// interval in which 95 % of resampled rounds put it. a and b are in the order of their
// rounds, and a round is drawn with both its pods: a mood of the machine cancels out.
func difference(a, b []float64, figure func([]float64) float64) string {
	random := rand.New(rand.NewPCG(1, 2)) // the same values, the same answer
	drawn := make([]float64, resamples)
	x, y := make([]float64, len(a)), make([]float64, len(a))
	for n := range drawn {
		for k := range x {
			i := random.IntN(len(a))
			x[k], y[k] = a[i], b[i]
		}
		drawn[n] = 100 * (figure(x)/figure(y) - 1)
	}
	slices.Sort(drawn)
	return fmt.Sprintf("%+.1f%% (%+.1f to %+.1f)", 100*(figure(a)/figure(b)-1), percentile(drawn, 0.025), percentile(drawn, 0.975))
}

// percentile of sorted values, by the nearest rank.
func percentile(sorted []float64, q float64) float64 {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
