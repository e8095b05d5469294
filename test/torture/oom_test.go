package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// hogs is how many containers are OOM-killed in side by side.
const hogs = 4

// toldWithin bounds the time from the kernel's kill to the daemon's event, as the 99th
// percentile. The promise is 10 ms on a machine of its own; this is what a machine that
// runs hogs and everything else besides must not exceed.
const toldWithin = time.Second

func TestOOMKillsAreNeitherLostNorMixedUp(t *testing.T) {
	d, image := start(t)
	cri := d.Client(t)
	ctx := harness.Context(t, 15*time.Minute)
	before := harness.Must(d.Census())(t)
	d.NeedWatch(t)
	events := oomEvents(t, ctx, d)
	p := d.HostPod("hogs")
	sandbox := harness.Must(cri.RunPod(ctx, p))(t)
	rounds := max(*oomKills/hogs, 1)
	want := map[string]int{}
	from := time.Now()
	for i := range hogs {
		// The shell lives on; only what it starts dies.
		script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do /bin/payload hog 64; [ $? = 137 ] || exit 3; i=$((i+1)); done", rounds)
		c := harness.Container(p, "hog-"+strconv.Itoa(i), image, "/bin/sh", "-c", script)
		c.Linux.Resources.MemoryLimitInBytes = 16 << 20
		want[harness.Must(cri.Run(ctx, sandbox, p, c))(t)] = rounds
	}
	innocent := harness.Container(p, "innocent", image, "/bin/payload", "wait")
	want[harness.Must(cri.Run(ctx, sandbox, p, innocent))(t)] = 0
	for id, n := range want {
		if n == 0 {
			continue
		}
		if s := harness.Must(cri.WaitExit(ctx, id))(t); s.ExitCode != 0 || s.Reason != "Completed" {
			t.Errorf("%s: reason %q, code %d: %s", s.Metadata.Name, s.Reason, s.ExitCode, s.Message)
		}
	}
	took := time.Since(from)

	got := map[string]int{}
	var late []time.Duration
	for range hogs * rounds {
		select {
		case e := <-events:
			got[e.ID]++
			late = append(late, e.Time.Sub(e.Kill.At))
			if e.Kill.Init || e.Kill.Level != "container" || e.Kill.Limit != 16<<20 || e.Kill.Victim.Command != "payload" {
				t.Errorf("%s: %+v", e.Container, e.Kill)
			}
		case <-time.After(harness.Scale(30 * time.Second)):
			t.Fatalf("%d of %d kills were told: %v", len(late), hogs*rounds, got)
		}
	}
	for id, n := range want {
		if got[id] != n {
			t.Errorf("%.13s: %d kills told, want %d", id, got[id], n)
		}
		if n > 0 {
			checkKillsOnRecord(t, d, id, n)
		}
	}
	slices.Sort(late)
	p99 := late[len(late)*99/100]
	t.Logf("%d kills in %v: told after %v in the median, %v at the 99th percentile, %v at most",
		len(late), took.Round(time.Millisecond), late[len(late)/2], p99, late[len(late)-1])
	if p99 > harness.Scale(toldWithin) {
		t.Errorf("99th percentile %v, want at most %v", p99, toldWithin)
	}
	page := harness.Must(d.Metrics())(t)
	if line := fmt.Sprintf(`vitrine_oom_kills_total{level="container",victim="child"} %d`, hogs*rounds); !strings.Contains(page, line+"\n") {
		t.Errorf("no line %q in /metrics", line)
	}
	if !strings.Contains(page, `vitrine_kernel_events_lost{kind="oom"} 0`) {
		t.Error("OOM events were lost")
	}
	if err := cri.RemovePod(ctx, sandbox); err != nil {
		t.Error(err)
	}
	harness.NothingLeft(t, d, before)
}

func checkKillsOnRecord(t *testing.T, d *harness.Daemon, id string, want int) {
	t.Helper()
	var records []struct{ Kills int }
	raw := harness.Must(d.Get("/v1/oom?pod=" + id))(t)
	if err := json.Unmarshal([]byte(raw), &records); err != nil {
		t.Fatal(err)
	}
	if len(records) != min(want, pod.MaxKills) || records[0].Kills != want {
		t.Errorf("%.13s: %d kills listed of %+v, want %d", id, len(records), records, want)
	}
}

type oomEvent struct {
	Time      time.Time
	Kind      string
	Container string
	ID        string `json:"containerId"`
	Kill      *pod.OOMKill
}

// oomEvents reads the daemon's event stream until the test ends.
func oomEvents(t *testing.T, ctx context.Context, d *harness.Daemon) <-chan oomEvent {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.API())
	}}}
	request := harness.Must(http.NewRequestWithContext(ctx, http.MethodGet, "http://vitrine/v1/events", nil))(t)
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	events, done := make(chan oomEvent, 10_000), make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(answer.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e oomEvent
			if json.Unmarshal(lines.Bytes(), &e) == nil && e.Kind == string(pod.ContainerOOM) && e.Kill != nil {
				events <- e
			}
		}
	}()
	t.Cleanup(func() {
		answer.Body.Close()
		<-done
	})
	return events
}
