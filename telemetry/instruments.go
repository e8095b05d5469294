package telemetry

import (
	"slices"

	"google.golang.org/grpc"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

//go:generate go test -run TestMetricsPageIsGenerated . -update

// Kind of an instrument.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Instrument is one metric family of the daemon. This file lists all of them; a
// family that is not listed does not exist, and dashboards may use only these.
type Instrument struct {
	// Name without the prefix "vitrine_", with the unit as Prometheus wants it.
	Name string
	// Unit is a base unit: seconds, bytes; empty for counts.
	Unit string
	Kind Kind
	Help string
	// Labels have bounded values, always.
	Labels []Label
	// Buckets are the classic ones of a histogram, in Unit; a native histogram is
	// kept beside them. Nil: standardBuckets.
	Buckets []float64
	// Spans feed a histogram or counter when they end.
	Spans []Source
	// Elsewhere: a counter that somebody else keeps and that is read at each scrape.
	Elsewhere bool
	// Live: a gauge that counts these spans while they are going on.
	Live bool
}

// Label of an instrument and what bounds it: the values it can have, or their
// number. A value beyond the bound is counted as "other".
type Label struct {
	Name   string
	Values []string
	Max    int
}

// Source says which spans feed an instrument and where its labels come from. The
// label "outcome" is ok, error or cancel, by the span's status, without being listed.
type Source struct {
	// Span is a span's name; "NAME.*" stands for all that begin with "NAME.", and
	// "rpc" for the server span of every call.
	Span string
	// Set are labels of a fixed value.
	Set map[string]string
	// From are labels taken from an attribute of the span; "name" stands for the
	// span's own name, "suffix.head" for the first word of what the "*" of Span stands for,
	// and "suffix.tail" for the others, words being what dots part.
	From map[string]string
	// Value is the attribute that a counter grows by; empty: 1 per span. Of a histogram it is
	// the attribute whose seconds are observed, if the span has it; empty: the span's duration.
	Value string
	// Failed: only spans that failed count.
	Failed bool
}

// standardBuckets are for steps of a pod's start, in seconds.
var standardBuckets = []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60}

// pullBuckets are for image pulls, in seconds.
var pullBuckets = []float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}

// Label values that several instruments share.
var (
	outcomes     = Label{Name: "outcome", Values: []string{"ok", "error", "cancel"}}
	handlerNames = Label{Name: "handler", Max: 10}
	methods      = Label{Name: "method", Max: 64}
	streams      = Label{Name: "stream", Values: []string{"stdout", "stderr", "mixed"}}
	storageKinds = Label{Name: "kind", Values: []string{"layer", "rw"}} // of images and of containers
	signals      = Label{Name: "signal", Values: []string{"traces", "logs", "metrics"}}
)

// criMethods are the methods of CRI. A family that lists them has each from 0 on, so
// that the first event is an increase.
func criMethods() (names []string) {
	for _, service := range []grpc.ServiceDesc{runtime.RuntimeService_ServiceDesc, runtime.ImageService_ServiceDesc} {
		for _, m := range service.Methods {
			names = append(names, m.MethodName)
		}
		for _, s := range service.Streams {
			names = append(names, s.StreamName)
		}
	}
	slices.Sort(names)
	return names
}

// phases are sources whose label phase is the span's name, and handler that of its pod.
func phases(spans ...string) []Source {
	sources := make([]Source, 0, len(spans))
	for _, span := range spans {
		sources = append(sources, Source{Span: span, From: map[string]string{"phase": "name", "handler": string(KeyHandler)}})
	}
	return sources
}

// other stands for values beyond a label's bound.
const other = "other"

// The instruments, by subject.
var (
	requestDuration = &Instrument{
		Name: "cri_request_duration_seconds", Unit: "seconds", Kind: Histogram,
		Help: "Time from a CRI call's arrival to its answer; for streams, to their end.",
		Labels: []Label{methods, {Name: "code", Values: []string{
			"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
			"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
			"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}}, handlerNames},
		Spans: []Source{{Span: "rpc", From: map[string]string{
			"method": "rpc.method", "code": "rpc.response.status_code", "handler": string(KeyHandler)}}},
	}
	requestsInflight = &Instrument{
		Name: "cri_requests_inflight", Kind: Gauge, Help: "CRI calls being worked on.", Labels: []Label{methods},
	}
	panics = &Instrument{
		Name: "panics_total", Kind: Counter, Help: "Bugs: panics in CRI calls, answered with Internal.", Labels: []Label{{Name: "method", Values: criMethods()}},
	}

	phaseInflight = &Instrument{
		Name: "operation_inflight", Kind: Gauge, Help: "Steps being worked on.", Labels: []Label{{Name: "phase", Max: 60}},
	}
	phaseInflightAge = &Instrument{
		Name: "operation_inflight_age_seconds_max", Unit: "seconds", Kind: Gauge,
		Help: "Age of the oldest step being worked on: what hangs, and since when.", Labels: []Label{{Name: "phase", Max: 60}},
	}

	sandboxPhase = &Instrument{
		Name: "sandbox_phase_duration_seconds", Unit: "seconds", Kind: Histogram,
		Help:   "Time of the steps of making, stopping and removing pod sandboxes.",
		Labels: []Label{{Name: "phase", Max: 40}, outcomes, handlerNames},
		Spans: phases("network.*", "lifecycle.run_sandbox", "lifecycle.stop_sandbox", "lifecycle.remove_sandbox",
			"lifecycle.clear_sandbox", "lifecycle.ports", "lifecycle.files", "lifecycle.init", "lifecycle.ready", "lifecycle.stopped"),
	}
	containerPhase = &Instrument{
		Name: "container_phase_duration_seconds", Unit: "seconds", Kind: Histogram,
		Help:   "Time of the steps of making, starting, stopping and removing containers.",
		Labels: []Label{{Name: "phase", Max: 60}, outcomes, handlerNames},
		Spans: phases("lifecycle.create_container", "lifecycle.start_container", "lifecycle.stop_container",
			"lifecycle.remove_container", "lifecycle.clear_container", "lifecycle.update_resources",
			"lifecycle.resolve", "lifecycle.record", "lifecycle.spec", "lifecycle.bundle", "lifecycle.observe", "lifecycle.created",
			"lifecycle.execute", "lifecycle.running", "lifecycle.runtime", "lifecycle.forget", "lifecycle.cgroup",
			"lifecycle.checkpoint_container", "lifecycle.checkpoint_pod", "lifecycle.restore_pod",
			"lifecycle.criu", "lifecycle.intent", "lifecycle.pause", "lifecycle.dump",
			"lifecycle.diff", "lifecycle.resume", "lifecycle.archive", "lifecycle.read", "lifecycle.unpack", "lifecycle.verify",
			"image.rootfs.*", "monitor.*", "launch.*", "libct.*", "birth.*", "ebpf.*"),
	}
	containerStartLatency = &Instrument{
		Name: "container_created_to_started_seconds", Unit: "seconds", Kind: Histogram,
		Help: "Time from a container's creation to the execution of its program.", Labels: []Label{handlerNames},
	}
	containerCreations = &Instrument{
		Name: "container_creations_total", Kind: Counter,
		Help:   "Containers made, by who made them: enter for ordinary ones, libcontainer for all others of the native handler.",
		Labels: []Label{{Name: "way", Values: []string{"enter", "libcontainer", "runtime"}}, outcomes},
		Spans:  []Source{{Span: "lifecycle.create_container", From: map[string]string{"way": string(KeyWay)}}},
	}
	monitorSpares = &Instrument{
		Name: "monitor_spares_total", Kind: Counter,
		Help:   "Containers made, by whether a spare monitor was ready for them: missed are those that came while there was none, off those where none is kept.",
		Labels: []Label{{Name: "spare", Values: []string{"used", "missed", "off"}}, outcomes},
		Spans:  []Source{{Span: "lifecycle.create_container", From: map[string]string{"spare": string(KeySpare)}}},
	}
	monitorSparesReady = &Instrument{
		Name: "monitor_spares_ready", Kind: Gauge, Help: "Spare monitors that wait for a container.",
	}
	cniPlugin = &Instrument{
		Name: "cni_plugin_duration_seconds", Unit: "seconds", Kind: Histogram,
		Help: "Time of executions of CNI plugins.",
		Labels: []Label{{Name: "plugin", Max: 20},
			{Name: "command", Values: []string{"ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"}}, outcomes},
		Spans: []Source{{Span: "network.cni", From: map[string]string{"plugin": string(KeyCNIPlugin), "command": string(KeyCNICommand)}}},
	}
	nriPlugin = &Instrument{
		Name: "nri_plugin_duration_seconds", Unit: "seconds", Kind: Histogram,
		Help:   "Time of calls of NRI plugins.",
		Labels: []Label{{Name: "plugin", Max: 30}, {Name: "event", Max: 20}, outcomes},
		Spans:  []Source{{Span: "nri.plugin", From: map[string]string{"plugin": string(KeyNRIPlugin), "event": string(KeyNRIEvent)}}},
	}
	ociHook = &Instrument{
		Name: "oci_hook_duration_seconds", Unit: "seconds", Kind: Histogram,
		Help: "Time of executions of OCI hooks, by program and by the event that they wait for. Those of startContainer run in the container, where nobody can time them.",
		Labels: []Label{{Name: "hook", Max: 30},
			{Name: "event", Values: []string{"prestart", "createRuntime", "createContainer", "poststart", "poststop"}}, outcomes},
		Spans: []Source{{Span: "oci.hook.*", From: map[string]string{"hook": "suffix.tail", "event": "suffix.head"}}},
	}

	imagePull = &Instrument{
		Name: "image_pull_duration_seconds", Unit: "seconds", Kind: Histogram, Buckets: pullBuckets,
		Help: "Time of image pulls and of their phases: pull is the whole, layer all of one layer, auth each request for a token, which the phase that needed it contains. Download, decompress and apply go on beside each other; decompress and apply, the writing of files, are without their waiting for one another and for the network.",
		Labels: []Label{{Name: "phase", Values: []string{
			"pull", "queue", "resolve", "auth", "policy", "manifest", "config", "copy", "layer", "download", "decompress", "apply", "commit", "record"}}, outcomes},
		Spans: []Source{
			{Span: "image.pull", Set: map[string]string{"phase": "pull"}},
			{Span: "image.queue", Set: map[string]string{"phase": "queue"}},
			{Span: "image.resolve", Set: map[string]string{"phase": "resolve"}},
			{Span: "image.auth", Set: map[string]string{"phase": "auth"}},
			{Span: "image.policy", Set: map[string]string{"phase": "policy"}},
			{Span: "image.manifest", Set: map[string]string{"phase": "manifest"}},
			{Span: "image.config", Set: map[string]string{"phase": "config"}},
			{Span: "image.copy", Set: map[string]string{"phase": "copy"}},
			{Span: "image.layer", Set: map[string]string{"phase": "layer"}},
			{Span: "image.layer.download", Set: map[string]string{"phase": "download"}},
			{Span: "image.layer.apply", Set: map[string]string{"phase": "decompress"}, Value: string(KeyDecompressSeconds)},
			{Span: "image.layer.apply", Set: map[string]string{"phase": "apply"}, Value: string(KeyWriteSeconds)},
			{Span: "image.layer.commit", Set: map[string]string{"phase": "commit"}},
			{Span: "image.record", Set: map[string]string{"phase": "record"}},
		},
	}
	imagePullBytes = &Instrument{
		Name: "image_pull_bytes_total", Unit: "bytes", Kind: Counter,
		Help:   "Compressed bytes that layers brought over the network, by registry or mirror and by what they came over: http is without TLS, h2 is HTTP/2 with it.",
		Labels: []Label{{Name: "endpoint", Max: 20}, {Name: "transport", Values: []string{"http", "https", "h2"}}},
		Spans: []Source{{Span: "image.layer.download", Value: string(KeyImageBytes),
			From: map[string]string{"endpoint": string(KeyImageEndpoint), "transport": string(KeyImageTransport)}}},
	}
	imagePullCachedBytes = &Instrument{
		Name: "image_pull_cached_bytes_total", Unit: "bytes", Kind: Counter,
		Help:  "Compressed bytes of layers that pulls did not bring because the node had them.",
		Spans: []Source{{Span: "image.layer", Value: string(KeyImageCachedBytes)}},
	}
	imagePullErrors = &Instrument{
		Name: "image_pull_errors_total", Kind: Counter,
		Help: "Image pulls that failed, by class of the cause.",
		Labels: []Label{{Name: "class", Values: []string{
			"dns", "tcp", "tls", "auth", "denied", "notfound", "ratelimit", "server", "timeout", "stall", "digest", "signature", "disk", "limit", "invalid", "cancel"}}},
		Spans: []Source{{Span: "image.pull", Failed: true, From: map[string]string{"class": string(KeyErrorType)}}},
	}
	imagePullsInflight = &Instrument{
		Name: "image_pulls_inflight", Kind: Gauge, Live: true, Help: "Image pulls being worked on.",
		Spans: []Source{{Span: "image.pull"}},
	}

	imagePullWaiters = &Instrument{
		Name: "image_pull_waiters", Kind: Gauge, Help: "Requests that wait for a pull that another one began.",
	}

	events = &Instrument{
		Name: "events_total", Kind: Counter, Help: "Changes of state of sandboxes and containers, OOM kills, the first denials of each kind, and stalls of logs.",
		Labels: []Label{{Name: "kind", Values: []string{
			"sandbox.ready", "sandbox.stopped", "sandbox.removed",
			"container.created", "container.started", "container.exited", "container.removed", "container.oom", "container.denied", "container.logstalled"}}},
	}
	oomKills = &Instrument{
		Name: "oom_kills_total", Kind: Counter,
		Help: "Processes of containers that the OOM killer ended, by whether it was PID 1, the process of an exec, or a child of either, and by whose limit ran out.",
		Labels: []Label{
			{Name: "victim", Values: []string{"init", "exec", "child"}},
			{Name: "level", Values: []string{"below", "container", "pod", "node", "global", "unknown"}}},
	}
	denials = &Instrument{
		Name: "denials_total", Kind: Counter, Elsewhere: true,
		Help:   "What containers were refused since the programs were first attached, by who refused. Seccomp's errors, read-only file systems and permissions are seen only while a container's syscalls are watched for denials; seccomp's also where the notifier asks the monitor, each once.",
		Labels: []Label{{Name: "layer", Values: []string{"seccomp", "capability", "selinux", "read-only", "permission"}}},
	}
	kernelEventsLost = &Instrument{
		Name: "kernel_events_lost", Kind: Gauge,
		Help:   "Events of eBPF programs that found no room since the programs were first attached; the last of each kind of a container is kept all the same, except those counted as last.",
		Labels: []Label{{Name: "kind", Values: []string{"oom", "exec", "exit", "signal", "denial", "start", "last"}}},
	}
	syscallWatches = &Instrument{
		Name: "syscall_watches", Kind: Gauge,
		Help:   "Containers whose system calls are watched, by what for; every process of the node pays for it at each of its own while any is above 0.",
		Labels: []Label{{Name: "what", Values: []string{"counts", "latency", "denials", "flight", "accept"}}},
	}
	containerExits = &Instrument{
		Name: "container_exits_total", Kind: Counter, Help: "Ended containers, by cause and by who asked for it.",
		Labels: []Label{
			{Name: "reason", Values: []string{"completed", "error", "oom", "signal", "seccomp", "starterror", "monitorlost", "unknown"}},
			{Name: "initiator", Values: []string{"self", "kubelet", "kernel", "host", "container", "unknown"}}},
	}
	containerLifetime = &Instrument{
		Name: "container_lifetime_seconds", Unit: "seconds", Kind: Histogram,
		Help:    "Time from a container's start to its end.",
		Buckets: []float64{0.1, 1, 10, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400},
	}
	execDuration = &Instrument{
		Name: "exec_duration_seconds", Unit: "seconds", Kind: Histogram,
		Help:   "Time of commands and attachments in containers: exec is every command, session and attach are those of a person's stream.",
		Labels: []Label{{Name: "kind", Values: []string{"exec", "session", "attach", "portforward"}}, outcomes},
		Spans: []Source{
			{Span: "lifecycle.exec", Set: map[string]string{"kind": "exec"}},
			{Span: "cri.exec", Set: map[string]string{"kind": "session"}},
			{Span: "cri.attach", Set: map[string]string{"kind": "attach"}},
			{Span: "cri.portforward", Set: map[string]string{"kind": "portforward"}},
		},
	}
	execPhase = &Instrument{
		Name: "exec_phase_duration_seconds", Unit: "seconds", Kind: Histogram,
		Help:   "Time of the steps of commands in containers: describing the process, executing it, until it ends, and until the rest of its output has been read.",
		Labels: []Label{{Name: "phase", Values: []string{"process", "execute", "run", "drain"}}, outcomes},
		Spans: []Source{
			{Span: "lifecycle.process", Set: map[string]string{"phase": "process"}},
			{Span: "monitor.exec", Set: map[string]string{"phase": "execute"}},
			{Span: "lifecycle.run", Set: map[string]string{"phase": "run"}},
			{Span: "lifecycle.drain", Set: map[string]string{"phase": "drain"}},
		},
	}

	logBytes = &Instrument{
		Name: "log_bytes_total", Unit: "bytes", Kind: Counter, Labels: []Label{streams},
		Help: "Bytes that containers wrote to their log; mixed where the reporter does not tell the streams apart.",
	}
	logRecords = &Instrument{
		Name: "log_records_total", Kind: Counter, Labels: []Label{streams}, Help: "Lines that containers wrote to their log.",
	}
	logDroppedBytes = &Instrument{
		Name: "log_dropped_bytes_total", Unit: "bytes", Kind: Counter,
		Labels: []Label{streams, {Name: "reason", Values: []string{"ratelimit", "enospc", "eio", "erofs", "stalled", "clientslow", "unknown"}}},
		Help:   "Bytes of container output that did not reach the log.",
	}

	logWriteStall = &Instrument{
		Name: "log_write_stall_seconds_total", Unit: "seconds", Kind: Counter, Elsewhere: true,
		Help: "Time in which the file systems of containers' logs did not answer and their monitors went on without them, stalls under way included.",
	}

	logReopen = &Instrument{
		Name: "log_reopen_total", Kind: Counter, Labels: []Label{outcomes}, Help: "Rotated logs that monitors were asked to open anew.",
		Spans: []Source{{Span: "lifecycle.reopen_log"}},
	}

	sandboxes = &Instrument{
		Name: "sandboxes", Kind: Gauge, Help: "Pod sandboxes.",
		Labels: []Label{{Name: "state", Values: []string{"creating", "ready", "stopping", "not-ready", "removing"}}},
	}
	containers = &Instrument{
		Name: "containers", Kind: Gauge, Help: "Containers.",
		Labels: []Label{{Name: "state", Values: []string{"creating", "created", "starting", "running", "stopping", "exited", "removing"}}},
	}
	images = &Instrument{
		Name: "images", Kind: Gauge, Help: "Images in the store.",
	}
	storageBytes = &Instrument{
		Name: "storage_bytes", Unit: "bytes", Kind: Gauge,
		Help:   "Disk space in use: by layers of images, by what containers wrote, by the logs of the containers that there are, rotated ones included. Logs are looked at by a scrape, at most every 10 s; a file system that does not answer leaves them out.",
		Labels: []Label{{Name: "kind", Values: append(slices.Clone(storageKinds.Values), "log")}},
	}
	storageRepairs = &Instrument{
		Name: "storage_repair_total", Kind: Counter,
		Help:   "What was taken out of the image store when the daemon started, because an end in the middle of writing may have damaged it: layers, and records that do not fit what is there. The next pull fetches it anew.",
		Labels: []Label{{Name: "kind", Values: []string{"layer", "record"}}},
		Spans: []Source{
			{Span: "image.repair", Set: map[string]string{"kind": "layer"}, Value: "vitrine.image.layers_removed"},
			{Span: "image.repair", Set: map[string]string{"kind": "record"}, Value: "vitrine.image.problems"},
		},
	}
	gcRemoved = &Instrument{
		Name: "gc_removed_bytes_total", Unit: "bytes", Kind: Counter, Help: "Disk space given back, as it was last measured.",
		Labels: []Label{storageKinds},
		Spans: []Source{
			{Span: "image.usage", Set: map[string]string{"kind": "layer"}, Value: string(KeyFreedBytes)},
			{Span: "image.rootfs.remove", Set: map[string]string{"kind": "rw"}, Value: string(KeyFreedBytes)},
		},
	}
	networkReady = &Instrument{
		Name: "network_ready", Kind: Gauge, Help: "1 when pods can be given a network.",
	}
	monitorUp = &Instrument{
		Name: "monitor_up", Kind: Gauge, Help: "Monitors that the daemon is connected to.",
	}
	monitorMemory = &Instrument{
		Name: "monitor_resident_memory_bytes", Unit: "bytes", Kind: Gauge,
		Help: "Resident memory of the monitors.", Labels: []Label{{Name: "aggregate", Values: []string{"sum", "max"}}},
	}
	monitorsLost = &Instrument{
		Name: "monitor_lost_total", Kind: Counter, Help: "Monitors that ended before their container.",
	}
	monitorReplacement = &Instrument{
		Name: "monitor_replacement_duration_seconds", Unit: "seconds", Kind: Histogram,
		Help:   "Time until a new monitor stood in the place of one that was killed; an error is a container that ends as MonitorLost.",
		Labels: []Label{outcomes}, Spans: []Source{{Span: "lifecycle.adopt_container"}},
	}
	recoveryDuration = &Instrument{
		Name: "recovery_duration_seconds", Unit: "seconds", Kind: Histogram, Help: "Time of recovery when the daemon started.",
		Labels: []Label{outcomes}, Spans: []Source{{Span: "lifecycle.recover"}},
	}

	spansEnded = &Instrument{
		Name: "telemetry_spans_total", Kind: Counter, Help: "Spans that ended or were received.",
		Labels: []Label{{Name: "source", Values: []string{"daemon", "received"}}},
	}
	exported = &Instrument{
		Name: "telemetry_exported_total", Kind: Counter, Help: "Spans, records and metrics that a collector accepted.", Labels: []Label{signals},
	}
	dropped = &Instrument{
		Name: "telemetry_dropped_total", Kind: Counter, Help: "Spans, records and metrics that did not reach a collector, the node's store or the daemon's log.",
		Labels: []Label{signals, {Name: "reason", Values: []string{"queue_full", "export_failed", "spool_full", "spool_damaged", "refused", "shutdown", "malformed", "trace_too_long", "too_many_live", "daemon_log_full"}}},
	}
	exportDuration = &Instrument{
		Name: "telemetry_export_duration_seconds", Unit: "seconds", Kind: Histogram, Help: "Time of attempts to export to the collector.", Labels: []Label{signals, outcomes},
	}
	queueLength = &Instrument{
		Name: "telemetry_queue_length", Kind: Gauge, Help: "Spans, records and metrics that wait to be put into a batch.", Labels: []Label{signals},
	}
	spoolBytes = &Instrument{
		Name: "telemetry_spool_bytes", Unit: "bytes", Kind: Gauge, Help: "Bytes on disk that wait for the collector.", Labels: []Label{signals},
	}
	historyBytes = &Instrument{
		Name: "telemetry_history_bytes", Unit: "bytes", Kind: Gauge, Help: "Bytes on disk of what the node remembers of pods that are gone.",
	}
	historyDropped = &Instrument{
		Name: "telemetry_history_dropped_total", Kind: Counter, Help: "Entries of the node's history that were not kept: the disk refused them or was too slow.",
	}
	traceStoreBytes = &Instrument{
		Name: "telemetry_trace_store_bytes", Unit: "bytes", Kind: Gauge, Help: "Memory of the traces that the node keeps.",
		Labels: []Label{{Name: "class", Values: []string{"acts", "reads"}}},
	}
	traceStoreTraces = &Instrument{
		Name: "telemetry_trace_store_traces", Kind: Gauge, Help: "Traces that the node keeps.",
		Labels: []Label{{Name: "class", Values: []string{"acts", "reads"}}},
	}
	receiverRequests = &Instrument{
		Name: "telemetry_receiver_requests_total", Kind: Counter, Help: "Reports of monitors, by the receiver's answer.",
		Labels: []Label{signals, {Name: "code", Values: []string{"200", "400", "405", "413", "415"}}},
	}

	buildInfo = &Instrument{
		Name: "build_info", Kind: Gauge, Help: "1, with what was built.",
		Labels: []Label{{Name: "version", Max: 1}, {Name: "revision", Max: 1}, {Name: "goversion", Max: 1}},
	}
	runtimeInfo = &Instrument{
		Name: "runtime_info", Kind: Gauge, Help: "1 for each runtime handler.",
		Labels: []Label{handlerNames, {Name: "version", Max: 10}},
	}
	configReloadOK = &Instrument{
		Name: "config_last_reload_successful", Kind: Gauge, Help: "1 when the last reload of the configuration was taken over.",
	}
	configReloadTime = &Instrument{
		Name: "config_last_reload_timestamp_seconds", Unit: "seconds", Kind: Gauge, Help: "When the configuration was last taken over, in seconds since 1970.",
	}
)

// Instruments is the list, in the order of docs/metrics.md.
var Instruments = []*Instrument{
	requestDuration, requestsInflight, panics,
	phaseInflight, phaseInflightAge, sandboxPhase, containerPhase, containerStartLatency, containerCreations, monitorSpares, monitorSparesReady, cniPlugin, nriPlugin, ociHook,
	imagePull, imagePullBytes, imagePullCachedBytes, imagePullErrors, imagePullsInflight, imagePullWaiters,
	events, oomKills, denials, kernelEventsLost, syscallWatches, containerExits, containerLifetime, execDuration, execPhase,
	logBytes, logRecords, logDroppedBytes, logWriteStall, logReopen,
	sandboxes, containers, images, storageBytes, storageRepairs, gcRemoved, networkReady, monitorUp, monitorMemory, monitorsLost, monitorReplacement, recoveryDuration,
	spansEnded, exported, dropped, exportDuration, queueLength, spoolBytes, historyBytes, historyDropped, traceStoreBytes, traceStoreTraces, receiverRequests,
	buildInfo, runtimeInfo, configReloadOK, configReloadTime,
}
