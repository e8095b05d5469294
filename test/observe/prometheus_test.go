package observe

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/dashboards"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// prometheus is a server with the shipped configuration, pointed at one daemon.
type prometheus struct {
	t    testing.TB
	addr string
}

// shipped returns a file of dashboards/.
func shipped(t testing.TB, path string) string {
	t.Helper()
	return filepath.Join(harness.Must(harness.Root())(t), "dashboards", path)
}

// startPrometheus runs the Debian package's server. features are its feature flags.
func startPrometheus(t testing.TB, target, features string) *prometheus {
	t.Helper()
	dir := t.TempDir()
	config := string(harness.Must(os.ReadFile(shipped(t, "prometheus/prometheus.yml")))(t))
	if strings.Count(config, "127.0.0.1:9477") != 2 {
		t.Fatal("the shipped configuration names another target")
	}
	config = strings.ReplaceAll(strings.ReplaceAll(config, "127.0.0.1:9477", target), ": 15s", ": 1s")
	files := map[string]string{"prometheus.yml": config, "vitrine.rules.yml": string(harness.Must(os.ReadFile(shipped(t, "prometheus/vitrine.rules.yml")))(t))}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &prometheus{t, freePort(t)}
	args := []string{"--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", p.addr, "--log.level", "warn"}
	if features != "" {
		args = append(args, "--enable-feature", features)
	}
	log := harness.Must(os.Create(filepath.Join(dir, "log")))(t)
	defer log.Close()
	cmd := exec.Command("prometheus", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("prometheus's log:\n%s", text)
		}
	})
	eventually(t, "Prometheus's answer", func() string {
		_, err := p.get("/-/ready", nil)
		if err != nil {
			return err.Error()
		}
		return ""
	})
	return p
}

func (p *prometheus) get(path string, query url.Values) ([]byte, error) {
	r, err := http.Get("http://" + p.addr + path + "?" + query.Encode())
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", r.Status, body)
	}
	return body, err
}

// series is one element of an instant vector.
type series struct {
	Metric map[string]string
	Value  [2]any
}

func (p *prometheus) query(expr string) ([]series, error) {
	body, err := p.get("/api/v1/query", url.Values{"query": {expr}})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			ResultType string
			Result     []series
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("the result is a %s", answer.Data.ResultType)
	}
	return answer.Data.Result, nil
}

// expanded puts in what Grafana puts in for a range of the test's length.
func expanded(expr string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*").Replace(expr)
}

var legendLabel = regexp.MustCompile(`{{\s*([a-z_]+)\s*}}`)

// fault says what is wrong with a query's data: none, although something happened; a
// series without the labels that its legend shows; a value that is no number; too
// many series for a picture. Empty: nothing.
func (p *prometheus) fault(q dashboards.Query) string {
	found, err := p.query(expanded(q.Expr))
	if err != nil {
		return err.Error()
	}
	if len(found) == 0 && !q.Quiet {
		return "no data"
	}
	if len(found) > 100 {
		return fmt.Sprintf("%d series", len(found))
	}
	numbers := 0
	for _, s := range found {
		for _, label := range legendLabel.FindAllStringSubmatch(q.Legend, -1) {
			if _, has := s.Metric[label[1]]; !has && strings.Contains(q.Expr, "by (") {
				return fmt.Sprintf("series %v lacks %s, which the legend shows", s.Metric, label[1])
			}
		}
		value, err := strconv.ParseFloat(fmt.Sprint(s.Value[1]), 64)
		if err != nil {
			return err.Error()
		}
		if value < -1e-9 { // what rounding makes of zero is none
			return fmt.Sprintf("%v is %g", s.Metric, value)
		}
		if !math.IsNaN(value) { // a quantile of nothing is, in a label whose step rests
			numbers++
		}
	}
	if numbers == 0 && !q.Quiet {
		return fmt.Sprintf("%d series and no number", len(found))
	}
	return ""
}

// load makes each thing happen that a panel shows, until the test ends it.
func (n *node) load(stop <-chan struct{}) {
	for round := 0; ; round++ {
		select {
		case <-stop:
			return
		default:
		}
		pod := n.Pod("load")
		sandbox, err := n.cri.RunPod(n.ctx, pod)
		if err != nil {
			n.Errorf("load: %v", err)
			return
		}
		c := harness.Container(pod, "c", n.image, "/bin/sh", "-c", "echo hello; sleep 1000")
		id, err := n.cri.Run(n.ctx, sandbox, pod, c)
		if err != nil {
			n.Errorf("load: %v", err)
			return
		}
		_, _ = n.cri.RemoveImage(n.ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: n.image}}) // it is pulled again below
		_, err = n.cri.Exec(n.ctx, id, 0, "/bin/true")
		_, pull := n.cri.Pull(n.ctx, hub.Image)
		_, absent := n.cri.Pull(n.ctx, hub.Image+"-absent")
		_, unknown := n.cri.Status(n.ctx, strings.Repeat("0", 64))
		if err != nil || pull != nil || absent == nil || unknown == nil {
			n.Errorf("load: %v, %v, %v, %v", err, pull, absent, unknown)
			return
		}
		time.Sleep(300 * time.Millisecond) // so that a scrape sees containers that live
		if err := n.cri.RemovePod(n.ctx, sandbox); err != nil {
			n.Errorf("load: %v", err)
			return
		}
	}
}

func TestPrometheusEvaluatesEveryPanelAndRuleOverARealLoad(t *testing.T) {
	n := start(t, harness.Options{MetricsListen: freePort(t)})
	pod := n.Pod("stays")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	harness.Must(n.cri.Run(n.ctx, sandbox, pod, harness.Container(pod, "c", n.image, "/bin/payload", "wait")))(t)
	servers := map[string]*prometheus{
		"classic histograms": startPrometheus(t, n.MetricsListen(), ""),
		"native histograms":  startPrometheus(t, n.MetricsListen(), "native-histograms,exemplar-storage"),
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { defer close(done); n.load(stop) }()
	defer func() { close(stop); <-done; n.must(n.cri.RemovePod(n.ctx, sandbox)) }()

	for name, p := range servers {
		t.Run(name, func(t *testing.T) {
			eventually(t, "data of every panel", func() string {
				var faults []string
				for file, d := range dashboards.All {
					for _, row := range d.Rows {
						for _, panel := range row.Panels {
							for _, q := range panel.Queries {
								if fault := p.fault(q); fault != "" {
									faults = append(faults, fmt.Sprintf("\n%s, %q: %s: %s", file, panel.Title, fault, q.Expr))
								}
							}
						}
					}
				}
				slices.Sort(faults)
				return strings.Join(faults, "")
			})
			eventually(t, "data of every rule", func() string {
				for _, r := range dashboards.Recordings {
					for _, expr := range []string{r.Expr, r.Name} {
						if fault := p.fault(dashboards.Query{Expr: expr}); fault != "" {
							return expr + ": " + fault
						}
					}
				}
				for _, a := range dashboards.Alerts {
					if fault := p.fault(dashboards.Query{Expr: a.Value, Quiet: a.Quiet}); fault != "" {
						return a.Name + ": " + fault
					}
				}
				return ""
			})
			p.rulesAreWell()
		})
	}
	t.Run("exemplars lead to traces of the node", func(t *testing.T) {
		p := servers["native histograms"]
		eventually(t, "an exemplar", func() string {
			body, err := p.get("/api/v1/query_exemplars", url.Values{"query": {"vitrine_cri_request_duration_seconds"},
				"start": {strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)}, "end": {strconv.FormatInt(time.Now().Unix()+1, 10)}})
			if err != nil {
				return err.Error()
			}
			id := regexp.MustCompile(`"trace_id":"([0-9a-f]{32})"`).FindSubmatch(body)
			if id == nil {
				return string(body)
			}
			if _, err := n.Get("/v1/traces/" + string(id[1])); err != nil {
				return err.Error()
			}
			return ""
		})
	})
}

// rulesAreWell fails the test for a rule that Prometheus could not evaluate.
func (p *prometheus) rulesAreWell() {
	p.t.Helper()
	body := harness.Must(p.get("/api/v1/rules", nil))(p.t)
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		p.t.Fatal(err)
	}
	count := 0
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			if count++; r.Health != "ok" {
				p.t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if want := len(dashboards.Recordings) + len(dashboards.Alerts); count != want {
		p.t.Errorf("Prometheus has %d rules of %d", count, want)
	}
}

func TestPromtoolAcceptsConfigurationRulesAndTheirTests(t *testing.T) {
	dir := shipped(t, "prometheus")
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"check", "rules", "vitrine.rules.yml"}, {"test", "rules", "rules_test.yml"}} {
		cmd := exec.Command("promtool", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func TestPromtoolFindsNothingToSayAboutThePages(t *testing.T) {
	n := start(t, harness.Options{MetricsListen: freePort(t)})
	r := harness.Must(http.Get("http://" + n.MetricsListen() + "/metrics"))(t)
	defer r.Body.Close()
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = r.Body
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestTheShippedCollectorConfigurationIsAccepted(t *testing.T) {
	out, err := exec.Command(harness.Must(buildCollector())(t), "validate", "--config", "file:"+shipped(t, "otel-collector/config.yaml")).CombinedOutput()
	if err != nil {
		t.Errorf("collector validate: %v\n%s", err, out)
	}
}
