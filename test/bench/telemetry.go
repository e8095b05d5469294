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
	"slices"
	"time"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// compareTelemetry starts pods on daemons that differ in what their telemetry meets:
// no collector, one that takes everything, one that is absent, one that answers 503
// and one that takes the connection and never answers. The daemons take turns pod by
// pod, in an order that moves on, so that the machine's moods meet all alike. A second
// daemon without a collector is the control: what it differs by is the machine's doing,
// and a difference is only told apart from it when its interval does not hold 0.
func compareTelemetry(ctx context.Context, o options) (err error) {
	hub, err := harness.StartHub(ctx)
	if err != nil {
		return err
	}
	defer hub.Close()
	takes := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer takes.Close()
	ill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer ill.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody reads
	if err != nil {
		return err
	}
	defer silent.Close()
	absent, err := freeAddress()
	if err != nil {
		return err
	}
	cases := []struct{ name, endpoint string }{
		{"off", ""}, {"off again", ""}, {"on", takes.URL}, {"absent", "http://" + absent}, {"503", ill.URL}, {"silent", "http://" + silent.Addr().String()},
	}
	targets := make([]*target, len(cases))
	for i, c := range cases {
		opts := harness.Options{RegistriesConf: fixture.RegistriesConf(hub.Addr), LogLevel: "info"}
		if c.endpoint != "" {
			opts.Env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_METRIC_EXPORT_INTERVAL=5000"}
		}
		d, e := harness.NewDaemon(opts)
		if e != nil {
			return e
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		if err := d.Start(ctx); err != nil {
			return err
		}
		t := &target{name: c.name, Instance: d.Instance}
		if t.cri, err = d.CRI(); err != nil {
			return err
		}
		if err := t.prepare(ctx, hub); err != nil {
			return err
		}
		targets[i] = t
	}
	ups := make([][]float64, len(cases))
	for round := range o.rounds*o.pods + 1 {
		for k := range cases {
			i := (k + round) % len(cases)
			steps, err := podCycle(ctx, targets[i], targets[i].HostPod("bench"))
			if err != nil {
				return fmt.Errorf("telemetry %s: %w", cases[i].name, err)
			}
			for _, s := range steps {
				if s.name == "pod up" && round > 0 { // the first is to warm up
					ups[i] = append(ups[i], float64(s.took)/float64(time.Millisecond))
				}
			}
		}
	}
	fmt.Printf("pod up, host network, one at a time, %d pods each, in turns; the last columns are to off, with 95 %% intervals\n\n", o.rounds*o.pods)
	fmt.Printf("%-10s %9s %9s %28s %28s\n", "telemetry", "p50 ms", "p99 ms", "p50", "p99")
	for i, c := range cases {
		fmt.Printf("%-10s %9.2f %9.2f %28s %28s\n", c.name, quantile(ups[i], 0.5), quantile(ups[i], 0.99), difference(ups[i], ups[0], 0.5), difference(ups[i], ups[0], 0.99))
	}
	return nil
}

// resamples is how often a difference is computed anew from rounds drawn by chance.
const resamples = 2000

// difference is by how many percent a quantile of a lies above that of b, with the
// interval in which 95 % of resampled rounds put it. a and b are in the order of their
// rounds, and a round is drawn with both its pods: a mood of the machine cancels out.
func difference(a, b []float64, q float64) string {
	random := rand.New(rand.NewPCG(1, 2)) // the same values, the same answer
	drawn := make([]float64, resamples)
	x, y := make([]float64, len(a)), make([]float64, len(a))
	for n := range drawn {
		for k := range x {
			i := random.IntN(len(a))
			x[k], y[k] = a[i], b[i]
		}
		drawn[n] = 100 * (quantile(x, q)/quantile(y, q) - 1)
	}
	slices.Sort(drawn)
	return fmt.Sprintf("%+.1f%% (%+.1f to %+.1f)", 100*(quantile(a, q)/quantile(b, q)-1), percentile(drawn, 0.025), percentile(drawn, 0.975))
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
