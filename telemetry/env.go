package telemetry

import (
	"cmp"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/vitrine-runtime/vitrine/pod"
)

// signal is one of the three kinds of telemetry, in the words of the labels.
type signal string

const (
	traces  signal = "traces"
	logs    signal = "logs"
	metered signal = "metrics"
)

// exportSettings are what the configuration and the environment say about the
// export of one signal.
type exportSettings struct {
	protocol string
	// target is host:port for gRPC and the whole URL for HTTP; plain means without TLS.
	target                    string
	plain                     bool
	headers                   map[string]string
	gzip                      bool
	caFile, certFile, keyFile string

	queue, batch int
	// delay is how long data wait for company, timeout what one export may take.
	delay, timeout time.Duration
	// interval is the time between two exports of the daemon's own metrics.
	interval time.Duration
	// exponential: histograms leave with their native buckets.
	exponential bool
}

const (
	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"
)

// batchVariables are the prefixes of the batching variables, and the standard delay
// in milliseconds.
var batchVariables = map[signal]struct {
	prefix string
	delay  int
}{traces: {"OTEL_BSP_", 5000}, logs: {"OTEL_BLRP_", 1000}, metered: {"OTEL_BSP_", 5000}}

// environment reads variables and keeps what it could not make sense of.
type environment struct{ notes []string }

func (e *environment) note(format string, args ...any) {
	e.notes = append(e.notes, fmt.Sprintf(format, args...))
}

func (*environment) text(name string) string { return strings.TrimSpace(os.Getenv(name)) }

func (e *environment) number(name string, standard int) int {
	text := e.text(name)
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		e.note("%s=%s is no positive number; using %d", name, text, standard)
		return standard
	}
	return n
}

func (e *environment) milliseconds(name string, standard int) time.Duration {
	return time.Duration(e.number(name, standard)) * time.Millisecond
}

// truth is what the specification calls a Boolean: only "true" is true.
func (e *environment) truth(name string) bool { return strings.EqualFold(e.text(name), "true") }

// readExportSettings follows the OpenTelemetry specification ("Environment Variable
// Specification", "OTLP Exporter Configuration"); a variable of the signal wins over
// the one of all signals, and the configuration over both. Values that it does not
// understand are passed over and noted; they never stop the daemon. A configuration
// that cannot be meant is ErrInvalid. enabled is false for a signal that is not exported.
func (e *environment) readExportSettings(c Config, of signal) (s exportSettings, enabled bool, err error) {
	upper := strings.ToUpper(string(of))
	if enabled, err = e.exports(c, of, upper); !enabled || err != nil {
		return s, enabled, err
	}
	variable := func(name string) string {
		return cmp.Or(e.text("OTEL_EXPORTER_OTLP_"+upper+"_"+name), e.text("OTEL_EXPORTER_OTLP_"+name))
	}
	s.protocol = cmp.Or(c.Protocol, variable("PROTOCOL"), protocolGRPC)
	if s.protocol != protocolGRPC && s.protocol != protocolHTTP {
		e.note("OTLP protocol %q is not known, only %s and %s are; using %s", s.protocol, protocolGRPC, protocolHTTP, protocolGRPC)
		s.protocol = protocolGRPC
	}
	if s.headers = c.Headers; len(s.headers) == 0 {
		s.headers = e.headers(variable("HEADERS"))
	}
	switch compression := variable("COMPRESSION"); compression {
	case "gzip":
		s.gzip = true
	case "", "none":
	default:
		e.note("OTLP compression %q is not known, only gzip and none are; using none", compression)
	}
	s.caFile = cmp.Or(c.CAFile, variable("CERTIFICATE"))
	s.certFile, s.keyFile = cmp.Or(c.CertFile, variable("CLIENT_CERTIFICATE")), cmp.Or(c.KeyFile, variable("CLIENT_KEY"))
	e.endpoint(&s, c, of, upper, strings.EqualFold(variable("INSECURE"), "true"))

	batching := batchVariables[of]
	s.queue = min(cmp.Or(c.QueueSize, e.number(batching.prefix+"MAX_QUEUE_SIZE", 2048)), 1<<20)
	s.batch = min(e.number(batching.prefix+"MAX_EXPORT_BATCH_SIZE", 512), s.queue)
	s.delay = cmp.Or(c.ExportDelay, e.milliseconds(batching.prefix+"SCHEDULE_DELAY", batching.delay))
	// The exporter's bound is of one attempt, and so is ours: attempts repeat.
	timeout := 10000
	if text := variable("TIMEOUT"); text != "" {
		if n, err := strconv.Atoi(text); err == nil && n > 0 {
			timeout = n
		} else {
			e.note("OTLP timeout %q is no positive number; using %d", text, timeout)
		}
	}
	bound := e.milliseconds(cmp.Or(map[signal]string{metered: "OTEL_METRIC_EXPORT_TIMEOUT"}[of], batching.prefix+"EXPORT_TIMEOUT"), 30000)
	s.timeout = cmp.Or(c.ExportTimeout, min(bound, time.Duration(timeout)*time.Millisecond))
	if of == metered {
		e.metricSettings(&s, c)
	}
	return s, true, nil
}

// exports says whether the signal is exported at all.
func (e *environment) exports(c Config, of signal, upper string) (bool, error) {
	for _, s := range c.Signals {
		if !slices.Contains([]signal{traces, logs, metered}, signal(s)) {
			return false, fmt.Errorf("%w: telemetry signal %q is none of traces, logs, metrics", pod.ErrInvalid, s)
		}
	}
	if c.Endpoint != "" && !strings.HasPrefix(c.Endpoint, "http://") && !strings.HasPrefix(c.Endpoint, "https://") {
		return false, fmt.Errorf("%w: telemetry endpoint %q must begin with http:// or https://", pod.ErrInvalid, c.Endpoint)
	}
	enabled := c.Endpoint != "" || e.text("OTEL_EXPORTER_OTLP_"+upper+"_ENDPOINT") != "" || e.text("OTEL_EXPORTER_OTLP_ENDPOINT") != ""
	exporters := strings.Split(e.text("OTEL_"+upper+"_EXPORTER"), ",")
	for _, exporter := range exporters {
		switch strings.TrimSpace(exporter) {
		case "":
		case "otlp":
			enabled = true
		case "none":
			enabled = c.Endpoint != ""
		case "prometheus": // /metrics is there whatever is exported
			if of != metered {
				e.note("OTEL_%s_EXPORTER=%s is not known, only otlp and none are", upper, exporter)
			} else if !slices.Contains(exporters, "otlp") {
				enabled = c.Endpoint != ""
			}
		default:
			e.note("OTEL_%s_EXPORTER=%s is not known, only otlp and none are", upper, exporter)
		}
	}
	if len(c.Signals) > 0 && !slices.Contains(c.Signals, string(of)) {
		enabled = false
	}
	return enabled && !e.truth("OTEL_SDK_DISABLED"), nil
}

// endpoint fills in target and plain. Over HTTP an endpoint of all signals gets the
// signal's path added, and an endpoint of the signal is taken as it is.
func (e *environment) endpoint(s *exportSettings, c Config, of signal, upper string, insecure bool) {
	own := e.text("OTEL_EXPORTER_OTLP_" + upper + "_ENDPOINT")
	standard := "http://localhost:4317"
	if s.protocol == protocolHTTP {
		standard = "http://localhost:4318"
	}
	whole := cmp.Or(c.Endpoint, own, e.text("OTEL_EXPORTER_OTLP_ENDPOINT"), standard)
	scheme, rest, found := strings.Cut(whole, "://")
	if !found {
		scheme, rest = "https", whole
		if insecure {
			scheme = "http"
		}
	}
	s.plain = scheme == "http"
	switch {
	case s.protocol == protocolGRPC:
		s.target, _, _ = strings.Cut(rest, "/")
	case c.Endpoint != "" || own == "":
		base := strings.TrimSuffix(rest, "/")
		for _, other := range []signal{traces, logs, metered} {
			base = strings.TrimSuffix(base, "/v1/"+string(other))
		}
		s.target = scheme + "://" + base + "/v1/" + string(of)
	default:
		s.target = scheme + "://" + rest
	}
}

// metricSettings reads what concerns metrics alone.
func (e *environment) metricSettings(s *exportSettings, c Config) {
	s.interval = cmp.Or(c.MetricInterval, e.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60000))
	switch t := strings.ToLower(e.text("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE")); t {
	case "", "cumulative":
	default:
		e.note("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=%s is not served; using cumulative", t)
	}
	switch h := strings.ToLower(e.text("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION")); h {
	case "", "explicit_bucket_histogram":
	case "base2_exponential_bucket_histogram":
		s.exponential = true
	default:
		e.note("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=%s is not known; using explicit_bucket_histogram", h)
	}
}

// headers reads key=value,key=value with percent-encoded values. What is broken is
// named by its key only: values are credentials.
func (e *environment) headers(text string) map[string]string {
	headers := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, found := strings.Cut(pair, "=")
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if key = strings.TrimSpace(key); !found || err != nil || key == "" {
			e.note("a header of OTEL_EXPORTER_OTLP_HEADERS is not KEY=VALUE with a percent-encoded value")
			continue
		}
		headers[key] = decoded
	}
	return headers
}

// readSampler returns the sampler that decides about export.
func (e *environment) readSampler(c Config) (sampler sdktrace.Sampler) {
	name := strings.ToLower(strings.TrimSpace(cmp.Or(c.Sampler, e.text("OTEL_TRACES_SAMPLER"), "parentbased_always_on")))
	arg := strings.TrimSpace(cmp.Or(c.SamplerArg, e.text("OTEL_TRACES_SAMPLER_ARG"), "1"))
	rest, parentBased := strings.CutPrefix(name, "parentbased_")
	switch rest {
	case "always_on":
		sampler = sdktrace.AlwaysSample()
	case "always_off":
		sampler = sdktrace.NeverSample()
	case "traceidratio":
		ratio, err := strconv.ParseFloat(arg, 64)
		if err != nil || !(ratio >= 0 && ratio <= 1) {
			e.note("sampler argument %q is no ratio between 0 and 1; using 1", arg)
			ratio = 1
		}
		sampler = sdktrace.TraceIDRatioBased(ratio)
	default:
		e.note("sampler %q is not known; using parentbased_always_on", name)
		sampler, parentBased = sdktrace.AlwaysSample(), true
	}
	if parentBased {
		sampler = sdktrace.ParentBased(sampler)
	}
	return sampler
}
