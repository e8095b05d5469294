package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
// pod, in an order that moves on, so that the machine's moods meet all alike.
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
		{"off", ""}, {"on", takes.URL}, {"absent", "http://" + absent}, {"503", ill.URL}, {"silent", "http://" + silent.Addr().String()},
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
	fmt.Printf("pod up, host network, one at a time, %d pods each, in turns\n\n%-10s %10s %10s %12s %12s\n", o.rounds*o.pods, "telemetry", "p50 ms", "p99 ms", "p50 to off", "p99 to off")
	for i, c := range cases {
		slices.Sort(ups[i])
		p50, p99 := percentile(ups[i], 0.5), percentile(ups[i], 0.99)
		fmt.Printf("%-10s %10.2f %10.2f %+11.1f%% %+11.1f%%\n", c.name, p50, p99,
			100*(p50/percentile(ups[0], 0.5)-1), 100*(p99/percentile(ups[0], 0.99)-1))
	}
	return nil
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
