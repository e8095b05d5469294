package dashboards

import "fmt"

// podStart breaks a start down into its steps.
var podStart = Dashboard{
	UID: "vitrine-pod-start", Title: "Vitrine: pod start",
	Description: "Where the time of a start goes. Dots are exemplars: each leads to the trace of one start.",
	Rows: []Row{
		{Title: "Calls", Panels: []Panel{
			{Title: "RunPodSandbox", Unit: "s", Description: "Network, cgroup and records of a pod.", Queries: spread("vitrine_cri_request_duration_seconds", `method="RunPodSandbox"`)},
			{Title: "CreateContainer", Unit: "s", Description: "Root file system, specification and the process that waits for its start.", Queries: spread("vitrine_cri_request_duration_seconds", `method="CreateContainer"`)},
			{Title: "StartContainer", Unit: "s", Description: "The execution of the program.", Queries: spread("vitrine_cri_request_duration_seconds", `method="StartContainer"`)},
		}},
		{Title: "Steps", Height: 10, Panels: []Panel{
			{Title: "Sandbox: time in each step", Unit: "s", Stack: true, Description: "Seconds per second that are spent in a step: what to make faster first.", Queries: []Query{spent("vitrine_sandbox_phase_duration_seconds", "phase")}},
			{Title: "Container: time in each step", Unit: "s", Stack: true, Description: "The same for containers. Steps contain steps: lifecycle.create_container is the sum of most.", Queries: []Query{spent("vitrine_container_phase_duration_seconds", "phase")}},
			{Title: "Pod and container, p99, by runtime handler", Unit: "s", Description: "Making a pod and making a container, as each handler does it.", Queries: []Query{
				byHandler("vitrine_sandbox_phase_duration_seconds", "lifecycle.run_sandbox", "pod"),
				byHandler("vitrine_container_phase_duration_seconds", "lifecycle.create_container", "container")}},
		}},
		{Title: "Others' programs", Panels: []Panel{
			{Title: "CNI plugins, p99", Unit: "s", Description: "Each execution, by plugin.", Queries: []Query{quantile(0.99, "vitrine_cni_plugin_duration_seconds", "plugin", `command="ADD"`)}},
			{Title: "OCI hooks, p99", Unit: "s", Description: "Each execution, by hook and the event that it waits for.", Queries: []Query{quantile(0.99, "vitrine_oci_hook_duration_seconds", "hook, event", "").as("{{hook}} {{event}}")}},
			{Title: "Created to started", Unit: "s", Description: "What kubelet lets pass between the two is in it.", Queries: spread("vitrine_container_created_to_started_seconds", "")},
		}},
		{Title: "Now", Panels: []Panel{
			{Title: "Steps in progress", Unit: "short", Stack: true, Description: "How many of each are being worked on.", Queries: []Query{{Expr: `sum by (phase) (vitrine_operation_inflight{` + on + `})`, Legend: "{{phase}}"}}},
			{Title: "Age of the oldest of each step", Unit: "s", Description: "What grows without end hangs.", Queries: []Query{{Expr: `max by (phase) (vitrine_operation_inflight_age_seconds_max{` + on + `})`, Legend: "{{phase}}"}}},
			{Title: "Failed steps per second", Unit: "ops", Stack: true, Description: "By step; the deepest one is the cause.", Queries: []Query{
				observations("vitrine_container_phase_duration_seconds", "phase", `outcome="error"`, "{{phase}}"),
				observations("vitrine_sandbox_phase_duration_seconds", "phase", `outcome="error"`, "{{phase}}")}},
		}},
	},
}

var imagePulls = Dashboard{
	UID: "vitrine-image-pulls", Title: "Vitrine: image pulls",
	Description: "What pulls wait for: the queue, the registry, the network, the disk.",
	Rows: []Row{
		{Title: "Pulls", Panels: []Panel{
			{Title: "Whole pulls", Unit: "s", Description: "From the call to the record.", Queries: spread("vitrine_image_pull_duration_seconds", `phase="pull"`)},
			{Title: "In progress", Unit: "short", Description: "Pulls that are being worked on.", Queries: []Query{total("vitrine_image_pulls_inflight", ""), {Expr: `sum(vitrine_image_pull_waiters{` + on + `})`, Legend: "requests that wait for one of them"}}},
			{Title: "Failures per second", Unit: "ops", Stack: true, Description: "By class of the cause.", Queries: []Query{rate("vitrine_image_pull_errors_total", "class")}},
		}},
		{Title: "Phases", Panels: []Panel{
			{Title: "Time in each phase", Unit: "s", Stack: true, Description: "Seconds per second; layers are worked on beside each other. Auth is within the phase that needed the token; decompress and apply are without their waiting for others.", Queries: []Query{spent("vitrine_image_pull_duration_seconds", "phase")}},
			{Title: "Phases, p99", Unit: "s", Description: "The slow case of each.", Queries: []Query{quantile(0.99, "vitrine_image_pull_duration_seconds", "phase", "")}},
			{Title: "Bytes per second, by endpoint", Unit: "Bps", Stack: true, Description: "Compressed; mirrors by their own name. http is without TLS.", Queries: []Query{{Expr: `sum by (endpoint, transport) (rate(vitrine_image_pull_bytes_total{` + on + `}[$__rate_interval]))`, Legend: "{{endpoint}} {{transport}}"}}},
		}},
		{Title: "Disk", Panels: []Panel{
			{Title: "Images", Unit: "short", Description: "In the store.", Queries: []Query{total("vitrine_images", "")}},
			{Title: "Bytes in use", Unit: "bytes", Stack: true, Description: "By what they are for: layers of images, what containers wrote, their logs with the rotated ones.", Queries: []Query{{Expr: `sum by (kind) (vitrine_storage_bytes{` + on + `})`, Legend: "{{kind}}"}}},
			{Title: "Bytes given back per second", Unit: "Bps", Stack: true, Description: "Layers of images, and what containers wrote, when they were removed.", Queries: []Query{rate("vitrine_gc_removed_bytes_total", "kind")}},
			{Title: "Repaired after an unclean end, per day", Unit: "short", Stack: true, Description: "Layers and records that were taken out of the store because they may be damaged. More than after power cuts: the disk.", Queries: []Query{{Expr: `sum by (kind) (increase(vitrine_storage_repair_total{` + on + `}[1d]))`, Legend: "{{kind}}"}}},
		}},
	},
}

// live selects containers, not the pods around them.
const live = on + `,container!=""`

var memory = Dashboard{
	UID: "vitrine-memory", Title: "Vitrine: memory",
	Description: "Who is short of memory, who was killed for it. The series of containers come from /metrics/containers.",
	Rows: []Row{
		{Title: "Killed", Panels: []Panel{
			{Title: "Containers killed for memory per hour", Unit: "short", Description: "By node. vitrine why CONTAINER has the verdict.", Queries: []Query{{Expr: `sum by (instance) (increase(vitrine_container_exits_total{` + on + `,reason="oom"}[1h]))`, Legend: "{{instance}}"}}},
			{Title: "Killed processes per hour, by whose limit", Unit: "short", Stack: true, Description: "PID 1, the process of an exec, or a child; whose limit ran out: the container's, the pod's, the node's.", Queries: []Query{{Expr: `sum by (level, victim) (increase(vitrine_oom_kills_total{` + on + `}[1h]))`, Legend: "{{level}}: {{victim}}"}}},
			{Title: "Out-of-memory events", Unit: "short", Description: "Of containers that live: a child was killed, or the container restarted in place.", Queries: []Query{{Expr: `topk(20, sum by (namespace, pod, container) (container_oom_events_total{` + live + `}))`, Legend: "{{namespace}}/{{pod}}/{{container}}"}}},
		}},
		{Title: "Short of memory", Panels: []Panel{
			{Title: "Working set of the limit", Unit: "percentunit", Description: "The twenty containers nearest to their limit.", Queries: []Query{{Expr: `topk(20, sum by (namespace, pod, container) (container_memory_working_set_bytes{` + live + `}) / (sum by (namespace, pod, container) (container_spec_memory_limit_bytes{` + live + `}) > 0))`, Legend: "{{namespace}}/{{pod}}/{{container}}"}}},
			{Title: "Hits of the limit per second", Unit: "ops", Description: "Reclaim at the limit: slow before it is killed.", Queries: []Query{{Expr: `topk(20, sum by (namespace, pod, container) (rate(container_memory_failcnt{` + live + `}[$__rate_interval])))`, Legend: "{{namespace}}/{{pod}}/{{container}}"}}},
			{Title: "Stalled for memory", Unit: "percentunit", Description: "Share of the time in which nothing of the container could run for want of memory. Kernels with pressure information only.", Queries: []Query{{Expr: `topk(20, sum by (namespace, pod, container) (rate(container_pressure_memory_stalled_seconds_total{` + live + `}[$__rate_interval])))`, Legend: "{{namespace}}/{{pod}}/{{container}}", Quiet: "cgroup v1 has no pressure of a group"}}},
		}},
		{Title: "Who uses it", Panels: []Panel{
			{Title: "Working sets", Unit: "bytes", Stack: true, Description: "The twenty largest.", Queries: []Query{{Expr: `topk(20, sum by (namespace, pod, container) (container_memory_working_set_bytes{` + live + `}))`, Legend: "{{namespace}}/{{pod}}/{{container}}"}}},
			{Title: "Of the runtime itself", Unit: "bytes", Stack: true, Description: "All monitors, and the daemon.", Queries: []Query{
				{Expr: `sum(vitrine_monitor_resident_memory_bytes{` + on + `,aggregate="sum"})`, Legend: "monitors"},
				{Expr: `sum(process_resident_memory_bytes{` + on + `} * on (instance) group_left vitrine_build_info)`, Legend: "daemon"}}},
		}},
	},
}

var denials = Dashboard{
	UID: "vitrine-denials", Title: "Vitrine: denials",
	Description: "What the kernel did not let containers do.",
	Rows: []Row{{Title: "Refused", Panels: []Panel{
		{Title: "Denials per second, by who refused", Unit: "ops", Stack: true, Description: "What containers were refused and went on. vitrine denials names each, with what would allow it.", Queries: []Query{rate("vitrine_denials_total", "layer")}},
		{Title: "New kinds of denials, per hour", Unit: "short", Description: "The first of each kind of a container: after a rollout, what it newly wants.", Queries: []Query{{Expr: `sum by (instance) (increase(vitrine_events_total{` + on + `,kind="container.denied"}[1h]))`, Legend: "{{instance}}"}}},
		{Title: "Denials that found no room", Unit: "short", Description: "Records of denials that were lost in the kernel; the ledger of the container counts them.", Queries: []Query{{Expr: `sum by (instance) (vitrine_kernel_events_lost{` + on + `,kind="denial"})`, Legend: "{{instance}}"}}},
	}}, {Title: "Killed", Panels: []Panel{
		{Title: "Containers ended by a seccomp filter, per hour", Unit: "short", Description: "A system call that the profile answers with death. vitrine why CONTAINER names it.", Queries: []Query{{Expr: `sum by (instance) (increase(vitrine_container_exits_total{` + on + `,reason="seccomp"}[1h]))`, Legend: "{{instance}}"}}},
		{Title: "Containers that could not be started, per hour", Unit: "short", Description: "Their program was refused or missing.", Queries: []Query{{Expr: `sum by (instance) (increase(vitrine_container_exits_total{` + on + `,reason="starterror"}[1h]))`, Legend: "{{instance}}"}}},
		{Title: "Pulls that a policy refused, per hour", Unit: "short", Description: "Signatures and registries' own refusals.", Queries: []Query{{Expr: `sum by (class) (increase(vitrine_image_pull_errors_total{` + on + `,class=~"signature|denied|auth"}[1h]))`, Legend: "{{class}}"}}},
	}}},
}

var logsAndMonitors = Dashboard{
	UID: "vitrine-logs-and-monitors", Title: "Vitrine: logs and monitors",
	Description: "Whether every line reaches its log, and how the processes are that see to it.",
	Rows: []Row{
		{Title: "Logs", Panels: []Panel{
			{Title: "Bytes per second", Unit: "Bps", Stack: true, Description: "What containers write.", Queries: []Query{rate("vitrine_log_bytes_total", "stream")}},
			{Title: "Lines per second", Unit: "ops", Stack: true, Description: "The same in lines.", Queries: []Query{rate("vitrine_log_records_total", "stream")}},
			{Title: "Bytes lost per second", Unit: "Bps", Stack: true, Description: "By reason; nothing is lost unsaid.", Queries: []Query{rate("vitrine_log_dropped_bytes_total", "reason")}},
			{Title: "Rotations per second", Unit: "ops", Stack: true, Description: "Logs that kubelet renamed and had opened anew; one that fails grows without bound.", Queries: []Query{rate("vitrine_log_reopen_total", "outcome")}},
		}},
		{Title: "Monitors", Panels: []Panel{
			{Title: "Connected", Unit: "short", Description: "Monitors, and the containers that have one: the two lie on each other.", Queries: []Query{
				total("vitrine_monitor_up", ""), {Expr: `sum(vitrine_containers{` + on + `,state=~"created|running|stopping"})`, Legend: "containers"}}},
			{Title: "Memory", Unit: "bytes", Description: "Of the largest and of all.", Queries: []Query{{Expr: `sum by (aggregate) (vitrine_monitor_resident_memory_bytes{` + on + `})`, Legend: "{{aggregate}}"}}},
			{Title: "Lost per hour", Unit: "short", Description: "Monitors that ended before their container.", Queries: []Query{{Expr: `sum by (instance) (increase(vitrine_monitor_lost_total{` + on + `}[1h]))`, Legend: "{{instance}}"}}},
		}},
		{Title: "Execs and ends", Panels: []Panel{
			{Title: "Execs, p99", Unit: "s", Description: "Probes are execs too.", Queries: []Query{quantile(0.99, "vitrine_exec_duration_seconds", "kind", "")}},
			{Title: "Execs: time in each step", Unit: "s", Stack: true, Description: "What a probe costs beside its own command: describing and executing it, and waiting for the rest of its output.", Queries: []Query{spent("vitrine_exec_phase_duration_seconds", "phase")}},
			{Title: "Ends per second, by who wanted it", Unit: "ops", Stack: true, Description: "Self, kubelet or kernel.", Queries: []Query{rate("vitrine_container_exits_total", "initiator")}},
			{Title: "Age at the end", Unit: "s", Description: "Containers that live for seconds are in a crash loop, or are jobs.", Queries: spread("vitrine_container_lifetime_seconds", "")},
		}},
	},
}

var telemetryHealth = Dashboard{
	UID: "vitrine-telemetry", Title: "Vitrine: its own telemetry",
	Description: "Whether what is seen elsewhere is all there was.",
	Rows: []Row{
		{Title: "To the collector", Panels: []Panel{
			{Title: "Accepted per second", Unit: "ops", Stack: true, Description: "By the collector, by signal.", Queries: []Query{rate("vitrine_telemetry_exported_total", "signal")}},
			{Title: "Dropped per second", Unit: "ops", Stack: true, Description: "By signal and reason. Zero, or something is missing elsewhere.", Queries: []Query{{Expr: `sum by (signal, reason) (rate(vitrine_telemetry_dropped_total{` + on + `}[$__rate_interval]))`, Legend: "{{signal}} {{reason}}"}}},
			{Title: "Exports, p99", Unit: "s", Description: "Nothing waits for them; a slow one fills the spool.", Queries: []Query{quantile(0.99, "vitrine_telemetry_export_duration_seconds", "signal", "")}},
		}},
		{Title: "Waiting", Panels: []Panel{
			{Title: "Queue", Unit: "short", Stack: true, Description: "Not yet in a batch.", Queries: []Query{{Expr: `sum by (signal) (vitrine_telemetry_queue_length{` + on + `})`, Legend: "{{signal}}"}}},
			{Title: "Spool", Unit: "bytes", Stack: true, Description: "On disk, because the collector does not keep up.", Queries: []Query{{Expr: `sum by (signal) (vitrine_telemetry_spool_bytes{` + on + `})`, Legend: "{{signal}}"}}},
			{Title: "The node's own traces", Unit: "bytes", Stack: true, Description: "What vitrine trace can show.", Queries: []Query{{Expr: `sum by (class) (vitrine_telemetry_trace_store_bytes{` + on + `})`, Legend: "{{class}}"}}},
		}},
		{Title: "Coming in", Panels: []Panel{
			{Title: "Spans per second", Unit: "ops", Stack: true, Description: "The daemon's and the monitors'.", Queries: []Query{rate("vitrine_telemetry_spans_total", "source")}},
			{Title: "Reports of monitors per second", Unit: "ops", Stack: true, Description: "By the answer they had.", Queries: []Query{rate("vitrine_telemetry_receiver_requests_total", "code")}},
			{Title: "Traces kept", Unit: "short", Stack: true, Description: "On the node.", Queries: []Query{{Expr: `sum by (class) (vitrine_telemetry_trace_store_traces{` + on + `})`, Legend: "{{class}}"}}},
		}},
	},
}

// as is the query with another legend.
func (q Query) as(legend string) Query {
	q.Legend = legend
	return q
}

// byHandler is the slow case of a step for each runtime handler. The default one's name is
// empty, which is no label to Prometheus.
func byHandler(family, phase, what string) Query {
	q := quantile(0.99, family, "handler", `phase="`+phase+`"`)
	q.Expr = `label_replace(` + q.Expr + `, "handler", "default", "handler", "")`
	q.Legend = what + " {{handler}}"
	return q
}

// spread is the median, the 95th and the 99th percentile of all of a family, or of
// what more selects.
func spread(family, more string) []Query {
	var queries []Query
	for _, q := range []float64{0.5, 0.95, 0.99} {
		one := quantile(q, family, "job", more)
		one.Legend = fmt.Sprintf("p%g", q*100)
		queries = append(queries, one)
	}
	return queries
}

// spent is the time that goes into a histogram's values, per second, by a label.
func spent(family, by string) Query {
	return Query{Expr: fmt.Sprintf(`sum by (%s) (rate(%s_sum{%s}[$__rate_interval]))`, by, family, on) +
		fmt.Sprintf(` or sum by (%s) (histogram_sum(rate(%s{%s}[$__rate_interval])))`, by, family, on), Legend: "{{" + by + "}}"}
}
