package telemetry

import (
	"io"
	"time"
)

// Config of the telemetry room. The zero value records traces on the node, exports
// nothing, and logs text of level info to standard error.
//
// Every OTEL_* variable of the OpenTelemetry specification that concerns OTLP
// export, sampling, batching, span limits and the resource is honoured, for traces,
// logs and metrics; a field set here wins over its variable. What a variable asks for
// and is not served is named in the log.
type Config struct {
	// Endpoint is the URL of an OTLP collector, for example
	// "https://collector:4317"; http means without TLS. Empty:
	// OTEL_EXPORTER_OTLP_ENDPOINT, or for one signal alone
	// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, …_LOGS_… and …_METRICS_…; without those
	// nothing is exported and nothing dialled.
	Endpoint string `toml:"endpoint"`
	// Protocol is "grpc" or "http/protobuf". Empty: OTEL_EXPORTER_OTLP_PROTOCOL, else grpc.
	Protocol string `toml:"protocol"`
	// Headers are sent with every export, for example for authentication. Empty:
	// OTEL_EXPORTER_OTLP_HEADERS.
	Headers map[string]string `toml:"headers"`
	// CAFile holds PEM certificates that the collector's is checked against. Empty:
	// OTEL_EXPORTER_OTLP_CERTIFICATE, else the system's.
	CAFile string `toml:"ca_file"`
	// CertFile and KeyFile are our own certificate for the collector, PEM, both or
	// none. Empty: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY.
	CertFile string `toml:"cert_file"`
	KeyFile  string `toml:"key_file"`
	// Sampler chooses what is exported, in the words of OTEL_TRACES_SAMPLER:
	// always_on, always_off, traceidratio, and each with parentbased_ before it.
	// Empty: that variable, else parentbased_always_on. The node keeps its own
	// traces whatever is sampled.
	Sampler string `toml:"sampler"`
	// SamplerArg is the ratio for traceidratio, 0 to 1. Empty: OTEL_TRACES_SAMPLER_ARG, else 1.
	SamplerArg string `toml:"sampler_arg"`
	// ExportReads exports traces of the read-only calls that a kubelet repeats every
	// second (List…, …Status, stats, Version) as well. False: only when the caller's
	// own trace is sampled.
	ExportReads bool `toml:"export_reads"`
	// Signals are what is exported, of traces, logs and metrics. Empty: all of them,
	// but those that OTEL_TRACES_EXPORTER, OTEL_LOGS_EXPORTER and OTEL_METRICS_EXPORTER
	// leave out where Endpoint is empty.
	Signals []string `toml:"signals"`
	// QueueSize bounds the spans, and the log records, that wait to be put into a batch;
	// more are dropped and counted. 0: OTEL_BSP_MAX_QUEUE_SIZE and
	// OTEL_BLRP_MAX_QUEUE_SIZE, else 2048.
	QueueSize int `toml:"queue_size"`
	// SpoolDir keeps batches that the collector did not take or keep up with, for
	// later. Empty: they are dropped and counted.
	SpoolDir string `toml:"spool_dir"`
	// SpoolBytes bounds SpoolDir; the oldest batches of the signal that has the most
	// give way. 0: 64 MiB.
	SpoolBytes int64 `toml:"spool_bytes"`

	// HistoryDir keeps what happened to pods that are gone. Empty: ROOT/history.
	HistoryDir string `toml:"history_dir"`
	// HistoryBytes bounds HistoryDir; the oldest gives way. 0: 64 MiB. Negative: no
	// history is kept.
	HistoryBytes int64 `toml:"history_bytes"`
	// HistoryHours is how long it is kept. 0: 24.
	HistoryHours int `toml:"history_hours"`

	// TraceBytes bounds the memory for the traces that the node keeps. 0: 16 MiB.
	TraceBytes int `toml:"trace_bytes"`

	// NodeName is the node as the cluster calls it (k8s.node.name). Empty: NODE_NAME
	// from the environment, else not told.
	NodeName string `toml:"node_name"`

	// LogFormat is "text" or "json". Empty: text.
	LogFormat string `toml:"log_format"`
	// LogLevel is debug, info, warn or error. Empty: info. It can be changed at run time.
	LogLevel string `toml:"log_level"`

	// ServiceName is the process in service.name. Empty: vitrined. OTEL_SERVICE_NAME wins.
	ServiceName string `toml:"-"`
	// Version and Revision are of this build. Empty: what the Go tool chain stamped.
	Version  string `toml:"-"`
	Revision string `toml:"-"`
	// LogOutput receives the log. Nil: standard error.
	LogOutput io.Writer `toml:"-"`
	// ExportTimeout bounds one attempt to export. 0: OTEL_EXPORTER_OTLP_TIMEOUT, else 10 s.
	ExportTimeout time.Duration `toml:"-"`
	// SpanStarted is called with the name of every span of the daemon, right after
	// its start time was taken. Tests use it to delay or end the daemon at a named
	// step, or to make the step fail with the error that it returns; see Span.Fault.
	// Nil: nothing.
	SpanStarted func(name string) error `toml:"-"`
	// ExportDelay is how long data wait for company. 0: OTEL_BSP_SCHEDULE_DELAY, else
	// 5 s, for spans; OTEL_BLRP_SCHEDULE_DELAY, else 1 s, for log records.
	ExportDelay time.Duration `toml:"-"`
	// MetricInterval is the time between two exports of the daemon's own metrics. 0:
	// OTEL_METRIC_EXPORT_INTERVAL, else 60 s.
	MetricInterval time.Duration `toml:"-"`
}
