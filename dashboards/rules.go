package dashboards

import (
	"bytes"
	"fmt"
)

// Recording is a recording rule: a name of the form level:instrument:operation.
type Recording struct{ Name, Expr string }

// Alert is an alerting rule. Its runbook is runbooks/NAME.md.
type Alert struct {
	Name string
	// Value has a series for every node that is watched; Condition, for example
	// "> 0.05", makes it fire.
	Value, Condition string
	// For is how long the condition must hold, in Prometheus' syntax.
	For string
	// Severity is page (someone is called) or ticket.
	Severity string
	// Summary may use {{ $labels.instance }} and {{ $value }}.
	Summary string
}

// slowRatio is the recorded share of starts that take longer than the objective.
const slowRatio = "instance:vitrine_cri_request_duration_seconds:slow_ratio_rate5m"

// started selects the calls of the objective: a pull takes what the image takes.
const started = `method=~"RunPodSandbox|CreateContainer|StartContainer"`

const requests = "vitrine_cri_request_duration_seconds"

// Recordings are the recording rules, in the order of evaluation.
var Recordings = []Recording{
	{"instance_method:" + requests + ":p99_rate5m",
		`histogram_quantile(0.99, sum by (le, instance, method) (rate(` + requests + `_bucket[5m]))) or histogram_quantile(0.99, sum by (instance, method) (rate(` + requests + `[5m])))`},
	{"instance_code:" + requests + ":count_rate5m",
		`sum by (instance, code) (rate(` + requests + `_count[5m])) or sum by (instance, code) (histogram_count(rate(` + requests + `[5m])))`},
	{slowRatio, // a bound of one second is "1" in the text format and "1.0" in OpenMetrics
		`clamp_min(1 - sum by (instance) (rate(` + requests + `_bucket{` + started + `,le=~"1|1.0"}[5m])) / sum by (instance) (rate(` + requests + `_count{` + started + `}[5m])), 0) or ` +
			`1 - histogram_fraction(0, 1, sum by (instance) (rate(` + requests + `{` + started + `}[5m])))`},
}

// Alerts are the alerting rules.
var Alerts = []Alert{
	{Name: "VitrineDown", Value: `up{job="vitrine"}`, Condition: "== 0", For: "2m", Severity: "page",
		Summary: "vitrined on {{ $labels.instance }} does not answer; containers go on, kubelet can change nothing"},
	{Name: "VitrineStartsSlow", Value: slowRatio, Condition: "> 0.05", For: "10m", Severity: "ticket",
		Summary: "{{ $value | humanizePercentage }} of the calls that start pods on {{ $labels.instance }} take longer than a second"},
	{Name: "VitrineCallsFail", Value: `sum by (instance) (instance_code:` + requests + `:count_rate5m{code=~"UNKNOWN|INTERNAL|UNAVAILABLE|DATA_LOSS|DEADLINE_EXCEEDED"}) / sum by (instance) (instance_code:` + requests + `:count_rate5m)`,
		Condition: "> 0.05", For: "10m", Severity: "page",
		Summary: "{{ $value | humanizePercentage }} of the calls on {{ $labels.instance }} fail for reasons of the node"},
	{Name: "VitrineStepHangs", Value: `max by (instance, phase) (vitrine_operation_inflight_age_seconds_max{phase!~"GetContainerEvents|cri\\..*|lifecycle\\.exec|image\\..*|PullImage"})`,
		Condition: "> 120", For: "1m", Severity: "page",
		Summary: "{{ $labels.phase }} on {{ $labels.instance }} has been going on for {{ $value | humanizeDuration }}"},
	{Name: "VitrineNetworkNotReady", Value: `vitrine_network_ready`, Condition: "== 0", For: "5m", Severity: "page",
		Summary: "pods on {{ $labels.instance }} cannot be given a network"},
	{Name: "VitrinePullsFail", Value: `sum by (instance, class) (increase(vitrine_image_pull_errors_total{class!~"notfound|denied|auth|invalid|cancel"}[15m]))`,
		Condition: "> 5", For: "5m", Severity: "ticket",
		Summary: "pulls on {{ $labels.instance }} fail with class {{ $labels.class }}"},
	{Name: "VitrineOutOfMemory", Value: `sum by (instance) (increase(vitrine_container_exits_total{reason="oom"}[15m]))`,
		Condition: "> 3", For: "0m", Severity: "ticket",
		Summary: "{{ $value | humanize }} containers on {{ $labels.instance }} were killed for memory within 15 minutes"},
	{Name: "VitrineSeccompKills", Value: `sum by (instance) (increase(vitrine_container_exits_total{reason="seccomp"}[15m]))`,
		Condition: "> 0", For: "0m", Severity: "ticket",
		Summary: "a seccomp filter ended containers on {{ $labels.instance }}"},
	{Name: "VitrineLogsLost", Value: `sum by (instance, reason) (rate(vitrine_log_dropped_bytes_total[5m]))`, Condition: "> 0", For: "5m", Severity: "ticket",
		Summary: "{{ $value | humanize1024 }}B/s of container output on {{ $labels.instance }} do not reach their log: {{ $labels.reason }}"},
	{Name: "VitrineMonitorsLost", Value: `sum by (instance) (increase(vitrine_monitor_lost_total[15m]))`, Condition: "> 0", For: "0m", Severity: "ticket",
		Summary: "monitors on {{ $labels.instance }} ended before their containers"},
	{Name: "VitrineTelemetryDropped", Value: `sum by (instance, signal, reason) (rate(vitrine_telemetry_dropped_total[5m]))`, Condition: "> 0", For: "10m", Severity: "ticket",
		Summary: "{{ $labels.signal }} of {{ $labels.instance }} are lost: {{ $labels.reason }}"},
	{Name: "VitrineSpoolFills", Value: `sum by (instance) (vitrine_telemetry_spool_bytes)`, Condition: "> 32 * 1024 * 1024", For: "10m", Severity: "ticket",
		Summary: "{{ $value | humanize1024 }}B on {{ $labels.instance }} wait for the collector; half of the spool's usual bound"},
	{Name: "VitrinePanics", Value: `sum by (instance, method) (increase(vitrine_panics_total[15m]))`, Condition: "> 0", For: "0m", Severity: "ticket",
		Summary: "a bug: {{ $labels.method }} panicked on {{ $labels.instance }}"},
	{Name: "VitrineReloadFailed", Value: `vitrine_config_last_reload_successful`, Condition: "== 0", For: "5m", Severity: "ticket",
		Summary: "{{ $labels.instance }} runs with an older configuration than its file"},
}

// rulesFile and runbooks are where the rules and their explanations lie, from here.
const (
	rulesFile = "prometheus/vitrine.rules.yml"
	runbooks  = "runbooks/"
)

// RulesYAML is the rules as Prometheus reads them. Quoted strings of YAML are Go's.
func RulesYAML() []byte {
	var out bytes.Buffer
	fmt.Fprintln(&out, "# Generated from dashboards/rules.go by go generate ./dashboards; do not edit.")
	fmt.Fprintln(&out, "groups:\n  - name: vitrine.recorded\n    rules:")
	for _, r := range Recordings {
		fmt.Fprintf(&out, "      - record: %s\n        expr: %q\n", r.Name, r.Expr)
	}
	fmt.Fprintln(&out, "  - name: vitrine.alerts\n    rules:")
	for _, a := range Alerts {
		fmt.Fprintf(&out, "      - alert: %s\n        expr: %q\n        for: %s\n", a.Name, a.Value+" "+a.Condition, a.For)
		fmt.Fprintf(&out, "        labels:\n          severity: %s\n", a.Severity)
		fmt.Fprintf(&out, "        annotations:\n          summary: %q\n          runbook: %q\n", a.Summary, "dashboards/"+runbooks+a.Name+".md")
	}
	return out.Bytes()
}
