package telemetry

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kinds are what a collector does; off is none.
var kinds = []string{"off", "on", "absent", "503", "silent"}

// endpoints are of a collector of each kind.
func endpoints(t testing.TB) map[string]string {
	t.Helper()
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	silent, gone := listen(), listen()
	gone.Close()
	takes := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	ill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(func() { takes.Close(); ill.Close(); silent.Close() })
	return map[string]string{"on": takes.URL, "absent": "http://" + gone.Addr().String(), "503": ill.URL, "silent": "http://" + silent.Addr().String()}
}

func exportingTo(t testing.TB, endpoint string) *Telemetry {
	t.Helper()
	dir := t.TempDir()
	tel, err := Setup(t.Context(), Config{Endpoint: endpoint, Protocol: "http/protobuf", SpoolDir: dir + "/spool", HistoryDir: dir + "/history",
		LogOutput: io.Discard, QueueSize: 1 << 20, ExportTimeout: time.Second, ExportDelay: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = tel.Shutdown(ctx) // an ill collector is why it fails
	})
	return tel
}

// BenchmarkStartByCollector is what telemetry costs a pod's start, by what its collector
// does: the CPU time of all that is done for it, at once and in the background, and the
// 99th percentile of how long the call itself is held up by its spans and log lines. CPU
// time is a clock that other work on the machine hardly moves; the other needs a quiet one.
//
//	go test ./telemetry -run xxx -bench StartByCollector -benchtime 2000x
func BenchmarkStartByCollector(b *testing.B) {
	at := endpoints(b)
	for _, kind := range kinds {
		b.Run(kind, func(b *testing.B) {
			tel := exportingTo(b, at[kind])
			held := make([]time.Duration, 0, b.N)
			before := processCPU(b)
			for b.Loop() {
				began := time.Now()
				startOfAPod(b, tel)
				held = append(held, time.Since(began))
			}
			tel.ended.settle()
			used := processCPU(b) - before
			slices.Sort(held)
			b.ReportMetric(float64(used.Microseconds())/float64(len(held)), "µs-CPU/start")
			b.ReportMetric(float64(held[len(held)*99/100].Nanoseconds())/1e3, "µs-p99/start")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// A collector that is ill costs no more CPU time than one that is well: what it does not
// take is written to disk once, and asked about seldom.
func TestAnIllCollectorCostsNoMoreThanAHealthyOne(t *testing.T) {
	const rounds, starts, most = 7, 60, 2
	at, used := endpoints(t), map[string][]float64{}
	all := map[string]*Telemetry{}
	for _, kind := range kinds[1:] {
		all[kind] = exportingTo(t, at[kind])
		startOfAPod(t, all[kind])
	}
	for range rounds { // in turns: moods of the machine meet all
		for _, kind := range kinds[1:] {
			before := processCPU(t)
			for range starts {
				startOfAPod(t, all[kind])
			}
			all[kind].ended.settle()
			time.Sleep(50 * time.Millisecond) // batches are made in the background
			used[kind] = append(used[kind], float64(processCPU(t)-before))
		}
	}
	median := func(values []float64) float64 { slices.Sort(values); return values[len(values)/2] }
	healthy := median(used["on"])
	for _, kind := range kinds[2:] {
		if got := median(used[kind]); got > most*healthy {
			t.Errorf("%s: %.2f ms of CPU time for %d starts, with a healthy collector %.2f", kind, got/1e6, starts, healthy/1e6)
		} else {
			t.Logf("%s: %.2f of a healthy one's", kind, got/healthy)
		}
	}
}

// startOfAPod makes as many spans and log lines as a start has.
func startOfAPod(b testing.TB, tel *Telemetry) {
	const calls, steps, lines = 3, 22, 3
	for range calls {
		ctx, call := Start(tel.Context(b.Context()), "lifecycle.create_container", KeyNamespace.String("shop"), KeyPodName.String("web"), KeyPodUID.String("uid-1"))
		for i := range steps {
			_, step := Start(ctx, fmt.Sprint("lifecycle.step", i), KeyContainerName.String("app"))
			step.End(nil)
		}
		for range lines {
			tel.Logger().InfoContext(ctx, "container created", "namespace", "shop", "pod", "web")
		}
		call.End(nil)
	}
}

func processCPU(b testing.TB) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
