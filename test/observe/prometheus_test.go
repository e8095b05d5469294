package observe

import (
	"context"
	"encoding/json"
	"errors"
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
	"github.com/vitrine-runtime/vitrine/test/fixture"
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
	if len(found) == 0 && q.Quiet == "" {
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
	if len(found) > 0 && numbers == 0 {
		return fmt.Sprintf("%d series and no number", len(found))
	}
	return ""
}

// busy are the options of a daemon to which everything can happen that a page shows:
// a plugin that refuses the pods named "refused", a hook, somebody who takes exports.
func busy(t *testing.T) harness.Options {
	t.Helper()
	plugins, hooks := t.TempDir(), t.TempDir()
	refusal := `{"cniVersion":"1.0.0","code":11,"msg":"not this pod"}`
	wrapper := fmt.Sprintf("#!/bin/sh\ncase $CNI_COMMAND$CNI_ARGS in ADD*K8S_POD_NAME=refused*) echo '%s'; exit 1;; esac\nexec %s/cni/bridge\n", refusal, harness.Must(harness.Bin())(t))
	hook := `{"version": "1.0.0", "hook": {"path": "/bin/true"}, "when": {"always": true}, "stages": ["createRuntime"]}`
	for path, text := range map[string]string{filepath.Join(plugins, "bridge"): wrapper, filepath.Join(hooks, "true.json"): hook} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return harness.Options{MetricsListen: freePort(t), CNIBin: []string{plugins}, Config: fmt.Sprintf("[runtime]\nhooks_dir = %q\n", hooks),
		Env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + startSink(t).URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}}
}

// load makes each thing happen that a panel shows, round by round, until the test ends it;
// pulled is an image that nobody uses.
func (n *node) load(pulled string, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if err := n.round(pulled); err != nil {
			n.Errorf("load: %v", err)
			return
		}
	}
}

// round is one pod's life, with what goes wrong in lives.
func (n *node) round(pulled string) error {
	pod := n.Pod("load")
	sandbox, err := n.cri.RunPod(n.ctx, pod)
	if err != nil {
		return err
	}
	c := harness.Container(pod, "c", n.image, "/bin/sh", "-c", "echo hello; sleep 1000")
	id, err := n.cri.Run(n.ctx, sandbox, pod, c)
	if err != nil {
		return err
	}
	_, exec := n.cri.Exec(n.ctx, id, 0, "/bin/true")
	_, pull := n.cri.Pull(n.ctx, pulled)
	_, err = n.cri.RemoveImage(n.ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: pulled}}) // so that the next round pulls it
	if err := errors.Join(exec, pull, err); err != nil {
		return err
	}
	_, absent := n.cri.Pull(n.ctx, hub.Image+"-absent")
	_, unknown := n.cri.Status(n.ctx, strings.Repeat("0", 64))
	_, slow := n.cri.Exec(n.ctx, id, 1, "/bin/sleep", "1000")
	_, refused := n.cri.RunPod(n.ctx, n.Pod("refused"))
	_, missing := n.cri.Run(n.ctx, sandbox, pod, harness.Container(pod, "missing", n.image, "/bin/absent"))
	for what, err := range map[string]error{"pull": absent, "status": unknown, "exec": slow, "pod": refused, "start": missing} {
		if err == nil {
			return fmt.Errorf("the %s that should fail did not", what)
		}
	}
	return n.cri.RemovePod(n.ctx, sandbox)
}

// stays runs what is there while the load comes and goes: a container whose children
// are killed for memory again and again, and one that a request to stop waits for.
func (n *node) stays(sandbox string, pod *runtime.PodSandboxConfig) {
	n.Helper()
	hungry := harness.Container(pod, "hungry", n.image, "/bin/sh", "-c", "while :; do /bin/payload hog 100; sleep 1; done")
	hungry.Linux.Resources.MemoryLimitInBytes = 32 << 20
	harness.Must(n.cri.Run(n.ctx, sandbox, pod, hungry))(n)
	stubborn := harness.Container(pod, "stubborn", n.image, "/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done")
	id := harness.Must(n.cri.Run(n.ctx, sandbox, pod, stubborn))(n)
	ctx, cancel := context.WithCancel(n.ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = n.cri.Stop(ctx, id, 3600) }() // ends with the test
	n.Cleanup(func() { cancel(); <-done })
}

// asked are the queries of all panels, recording rules and alerts, by where they stand.
func asked() map[string]dashboards.Query {
	all := map[string]dashboards.Query{}
	for file, d := range dashboards.All {
		for _, row := range d.Rows {
			for _, panel := range row.Panels {
				for i, q := range panel.Queries {
					all[fmt.Sprintf("%s, %s, %q, query %d", file, row.Title, panel.Title, i)] = q
				}
			}
		}
	}
	for _, r := range dashboards.Recordings {
		all["expression of "+r.Name], all["record "+r.Name] = dashboards.Query{Expr: r.Expr}, dashboards.Query{Expr: r.Name}
	}
	for _, a := range dashboards.Alerts {
		all["alert "+a.Name] = dashboards.Query{Expr: a.Value}
	}
	return all
}

// A query is well when it once had data of its shape: what a round does is not to be
// seen at every moment.
func TestPrometheusEvaluatesEveryPanelAndRuleOverARealLoad(t *testing.T) {
	n := start(t, busy(t))
	n.ctx = harness.Context(t, 2*patience+10*time.Minute)
	small := harness.Must(fixture.BuildImage(n.ctx, hub.Addr, "test/small:1", fixture.Image{
		Layers: []fixture.Layer{{Files: []fixture.File{{Name: "data", Body: make([]byte, 1<<20)}}}}}))(t)
	pod := n.Pod("stays")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	servers := map[string]*prometheus{
		"classic histograms": startPrometheus(t, n.MetricsListen(), ""),
		"native histograms":  startPrometheus(t, n.MetricsListen(), "native-histograms,exemplar-storage"),
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { defer close(done); n.load(small.Ref, stop) }()
	defer func() { close(stop); <-done; n.must(n.cri.RemovePod(n.ctx, sandbox)) }()
	n.stays(sandbox, pod)

	for name, p := range servers {
		t.Run(name, func(t *testing.T) {
			left := asked()
			eventually(t, "data of every query", func() string {
				var faults []string
				for where, q := range left {
					if fault := p.fault(q); fault != "" {
						faults = append(faults, fmt.Sprintf("\n%s: %s: %s", where, fault, q.Expr))
					} else {
						delete(left, where)
					}
				}
				slices.Sort(faults)
				return strings.Join(faults, "")
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
