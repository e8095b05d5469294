package dashboards

import "fmt"

// All are the dashboards that ship, by the name of their file.
var All = map[string]Dashboard{
	"node-overview.json": overview, "pod-start.json": podStart, "image-pulls.json": imagePulls,
	"memory.json": memory, "denials.json": denials, "logs-and-monitors.json": logsAndMonitors, "telemetry.json": telemetryHealth,
}

// on selects the nodes that the reader chose.
const on = `instance=~"$instance"`

// quantile is a share of a histogram by a label. A scraper that takes native
// histograms may keep no classic buckets, and an old one has nothing else: the query
// works with either.
func quantile(q float64, family, by, more string) Query {
	selector := on
	if more != "" {
		selector += "," + more
	}
	return Query{
		Expr: fmt.Sprintf(`histogram_quantile(%g, sum by (le, %s) (rate(%s_bucket{%s}[$__rate_interval])))`, q, by, family, selector) +
			fmt.Sprintf(` or histogram_quantile(%g, sum by (%s) (rate(%s{%s}[$__rate_interval])))`, q, by, family, selector),
		Legend: fmt.Sprintf("p%g {{%s}}", q*100, by),
	}
}

// observations is how many values per second a histogram takes, by labels; see quantile.
func observations(family, by, more, legend string) Query {
	selector := on
	if more != "" {
		selector += "," + more
	}
	return Query{
		Expr: fmt.Sprintf(`sum by (%s) (rate(%s_count{%s}[$__rate_interval]))`, by, family, selector) +
			fmt.Sprintf(` or sum by (%s) (histogram_count(rate(%s{%s}[$__rate_interval])))`, by, family, selector),
		Legend: legend,
	}
}

// rate is an increase per second by a label.
func rate(family, by string) Query {
	return Query{Expr: fmt.Sprintf(`sum by (%s) (rate(%s{%s}[$__rate_interval]))`, by, family, on), Legend: "{{" + by + "}}"}
}

// total is a sum over the nodes.
func total(family, more string) Query {
	selector := on
	if more != "" {
		selector += "," + more
	}
	return Query{Expr: fmt.Sprintf(`sum(%s{%s})`, family, selector), Legend: "{{instance}}"}
}

// startMethods are the calls that a pod waits for.
const startMethods = `method=~"PullImage|RunPodSandbox|CreateContainer|StartContainer"`

var overview = Dashboard{
	UID:         "vitrine-node-overview",
	Title:       "Vitrine: node overview",
	Description: "Are pods started, how fast, what fails, and what hangs. Dots on the curves are exemplars: their trace id goes to vitrine trace.",
	Rows: []Row{
		{Title: "Now", Height: 4, Panels: []Panel{
			{Title: "Pods ready", Kind: "stat", Unit: "short", Description: "Pod sandboxes that can take containers.",
				Queries: []Query{total("vitrine_sandboxes", `state="ready"`)}},
			{Title: "Containers running", Kind: "stat", Unit: "short", Description: "Containers whose program runs.",
				Queries: []Query{total("vitrine_containers", `state="running"`)}},
			{Title: "Calls in progress", Kind: "stat", Unit: "short", Description: "CRI calls that have no answer yet.",
				Queries: []Query{total("vitrine_cri_requests_inflight", "")}},
			{Title: "Oldest step", Kind: "stat", Unit: "s", Description: "Age of the oldest step that is going on, streams of events aside. Minutes mean that something hangs: vitrine status names it.",
				Queries: []Query{{Expr: `max(vitrine_operation_inflight_age_seconds_max{` + on + `,phase!~"GetContainerEvents|cri\\..*|lifecycle\\.exec"})`, Legend: "oldest"}}},
			{Title: "Network ready", Kind: "stat", Unit: "short", Description: "Nodes that can give pods a network.",
				Queries: []Query{total("vitrine_network_ready", "")}},
			{Title: "Out of memory, 1 h", Kind: "stat", Unit: "short", Description: "Containers that the kernel killed for memory in the last hour.",
				Queries: []Query{{Expr: `sum(increase(vitrine_container_exits_total{` + on + `,reason="oom"}[1h]))`, Legend: "oom"}}},
		}},
		{Title: "Starting pods", Panels: []Panel{
			{Title: "Calls within a second", Unit: "percentunit", Description: "The objective: 95 % of the calls that start a pod, pulls aside, take less than a second.",
				Queries: []Query{{Expr: "1 - max by (instance) (" + slowRatio + "{" + on + "})", Legend: "{{instance}}"}}},
			{Title: "Time of the calls a pod waits for, p99", Unit: "s", Description: "What a kubelet waits for until a container runs.",
				Queries: []Query{quantile(0.99, "vitrine_cri_request_duration_seconds", "method", startMethods)}},
			{Title: "Time of the calls a pod waits for, median", Unit: "s", Description: "The usual case of the same.",
				Queries: []Query{quantile(0.5, "vitrine_cri_request_duration_seconds", "method", startMethods)}},
		}},
		{Title: "Why it takes long", Panels: []Panel{
			{Title: "Steps of sandboxes, p95", Unit: "s", Description: "Network, namespaces, records.",
				Queries: []Query{quantile(0.95, "vitrine_sandbox_phase_duration_seconds", "phase", "")}},
			{Title: "Steps of containers, p95", Unit: "s", Description: "Root file system, launcher, monitor.",
				Queries: []Query{quantile(0.95, "vitrine_container_phase_duration_seconds", "phase", "")}},
			{Title: "CNI plugins, p95", Unit: "s", Description: "Each execution of each plugin.",
				Queries: []Query{quantile(0.95, "vitrine_cni_plugin_duration_seconds", "plugin", "")}},
		}},
		{Title: "Calls", Panels: []Panel{
			{Title: "Calls per second", Unit: "ops", Stack: true, Description: "By method; a kubelet's polling is most of them.",
				Queries: []Query{observations("vitrine_cri_request_duration_seconds", "method", "", "{{method}}")}},
			{Title: "Failed calls per second", Unit: "ops", Stack: true, Description: "By code. NOT_FOUND is usual: a kubelet asks about what it has removed.",
				Queries: []Query{observations("vitrine_cri_request_duration_seconds", "method, code", `code!="OK"`, "{{method}} {{code}}")}},
			{Title: "Panics", Unit: "short", Description: "Bugs of ours. Any is one too many; the log has the stack.",
				Queries: []Query{{Expr: `sum by (method) (increase(vitrine_panics_total{` + on + `}[$__rate_interval]))`, Legend: "{{method}}"}}},
		}},
		{Title: "Images", Panels: []Panel{
			{Title: "Phases of pulls, p95", Unit: "s", Description: "Registry, disk or processor: download, apply or the rest.",
				Queries: []Query{quantile(0.95, "vitrine_image_pull_duration_seconds", "phase", "")}},
			{Title: "Bytes per second", Unit: "Bps", Stack: true, Description: "Compressed bytes, by the registry or mirror that served them.",
				Queries: []Query{rate("vitrine_image_pull_bytes_total", "endpoint")}},
			{Title: "Failed pulls per second", Unit: "ops", Stack: true, Description: "By class of the cause.",
				Queries: []Query{rate("vitrine_image_pull_errors_total", "class")}},
		}},
		{Title: "Containers", Panels: []Panel{
			{Title: "Exits per second", Unit: "ops", Stack: true, Description: "Why containers end.",
				Queries: []Query{rate("vitrine_container_exits_total", "reason")}},
			{Title: "Log bytes per second", Unit: "Bps", Stack: true, Description: "What containers write to their log.",
				Queries: []Query{rate("vitrine_log_bytes_total", "stream")}},
			{Title: "Log bytes lost per second", Unit: "Bps", Stack: true, Description: "Output that did not reach the log. Anything above zero has a reason here.",
				Queries: []Query{rate("vitrine_log_dropped_bytes_total", "reason")}},
		}},
		{Title: "The daemon itself", Panels: []Panel{
			{Title: "Telemetry dropped per second", Unit: "ops", Stack: true, Description: "Spans, records and metrics that reached no collector, by reason.",
				Queries: []Query{rate("vitrine_telemetry_dropped_total", "reason")}},
			{Title: "Memory", Unit: "bytes", Description: "Of the daemon; of this, the node's own traces.",
				Queries: []Query{{Expr: `sum by (instance) (process_resident_memory_bytes{` + on + `} * on (instance) group_left vitrine_build_info)`, Legend: "{{instance}}"},
					{Expr: `sum(vitrine_telemetry_trace_store_bytes{` + on + `})`, Legend: "traces"}}},
			{Title: "Processor", Unit: "percentunit", Description: "Share of one processor that the daemon uses.",
				Queries: []Query{{Expr: `sum by (instance) (rate(process_cpu_seconds_total{` + on + `}[$__rate_interval]) * on (instance) group_left vitrine_build_info)`, Legend: "{{instance}}"}}},
		}},
	},
}
