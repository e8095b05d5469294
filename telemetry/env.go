package telemetry

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// exportSettings is what the configuration and the environment say about export,
// as far as the OTLP clients do not read it themselves (they read endpoint, TLS,
// headers, compression and timeout variables).
type exportSettings struct {
	enabled      bool
	protocol     string
	queue, batch int
	delay        time.Duration
	timeout      time.Duration
}

const (
	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"
)

// readExportSettings follows the OpenTelemetry specification ("Environment Variable
// Specification", "OTLP Exporter Configuration"). Values that it does not understand
// are passed over and named in the notes; they never stop the daemon.
func readExportSettings(c Config) (s exportSettings, notes []string) {
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	s.protocol = cmp.Or(c.Protocol, os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), protocolGRPC)
	s.enabled = c.Endpoint != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != ""
	switch exporter := strings.TrimSpace(os.Getenv("OTEL_TRACES_EXPORTER")); exporter {
	case "":
	case "otlp":
		s.enabled = true
	case "none":
		s.enabled = c.Endpoint != ""
	default:
		note("OTEL_TRACES_EXPORTER=%s is not known, only otlp and none are", exporter)
	}
	if disabled, _ := strconv.ParseBool(os.Getenv("OTEL_SDK_DISABLED")); disabled {
		s.enabled = false
	}
	if s.enabled && s.protocol != protocolGRPC && s.protocol != protocolHTTP {
		note("OTLP protocol %q is not known, only %s and %s are; using %s", s.protocol, protocolGRPC, protocolHTTP, protocolGRPC)
		s.protocol = protocolGRPC
	}
	number := func(name string, standard int) int {
		text := strings.TrimSpace(os.Getenv(name))
		if text == "" {
			return standard
		}
		n, err := strconv.Atoi(text)
		if err != nil || n <= 0 {
			note("%s=%s is no positive number; using %d", name, text, standard)
			return standard
		}
		return n
	}
	s.queue = min(cmp.Or(c.QueueSize, number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)), 1<<20)
	s.batch = min(number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), s.queue)
	s.delay = cmp.Or(c.ExportDelay, time.Duration(number("OTEL_BSP_SCHEDULE_DELAY", 5000))*time.Millisecond)
	s.timeout = cmp.Or(c.ExportTimeout, time.Duration(number("OTEL_BSP_EXPORT_TIMEOUT", 30000))*time.Millisecond)
	return s, notes
}

// readSampler returns the sampler that decides about export.
func readSampler(c Config) (sampler sdktrace.Sampler, notes []string) {
	name := strings.ToLower(strings.TrimSpace(cmp.Or(c.Sampler, os.Getenv("OTEL_TRACES_SAMPLER"), "parentbased_always_on")))
	arg := strings.TrimSpace(cmp.Or(c.SamplerArg, os.Getenv("OTEL_TRACES_SAMPLER_ARG"), "1"))
	rest, parentBased := strings.CutPrefix(name, "parentbased_")
	switch rest {
	case "always_on":
		sampler = sdktrace.AlwaysSample()
	case "always_off":
		sampler = sdktrace.NeverSample()
	case "traceidratio":
		ratio, err := strconv.ParseFloat(arg, 64)
		if err != nil || !(ratio >= 0 && ratio <= 1) {
			notes = append(notes, fmt.Sprintf("sampler argument %q is no ratio between 0 and 1; using 1", arg))
			ratio = 1
		}
		sampler = sdktrace.TraceIDRatioBased(ratio)
	default:
		notes = append(notes, fmt.Sprintf("sampler %q is not known; using parentbased_always_on", name))
		sampler, parentBased = sdktrace.AlwaysSample(), true
	}
	if parentBased {
		sampler = sdktrace.ParentBased(sampler)
	}
	return sampler, notes
}
