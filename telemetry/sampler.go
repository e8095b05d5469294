package telemetry

import (
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// nodeSampler records every span for the node and leaves to export whether it is
// sampled. Read-only calls that begin a trace of their own are not sampled unless
// the configuration asks for it: a kubelet makes several of them every second, and
// they would bury everything else.
type nodeSampler struct {
	export sdktrace.Sampler
	reads  bool
}

// ShouldSample never drops.
func (s nodeSampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	result := s.export.ShouldSample(p)
	if result.Decision == sdktrace.Drop {
		result.Decision = sdktrace.RecordOnly
	}
	if !s.reads && p.Kind == trace.SpanKindServer && !trace.SpanContextFromContext(p.ParentContext).IsValid() && isRead(method(p)) {
		result.Decision = sdktrace.RecordOnly
	}
	return result
}

// Description names the sampler in the SDK's own messages.
func (s nodeSampler) Description() string { return "Node{" + s.export.Description() + "}" }

func method(p sdktrace.SamplingParameters) string {
	for _, a := range p.Attributes {
		if a.Key == semconv.RPCMethodKey {
			return a.Value.AsString()
		}
	}
	return p.Name
}

// isRead tells the CRI methods that change nothing, by the last element of a full
// method name.
func isRead(fullMethod string) bool {
	m := fullMethod[strings.LastIndexByte(fullMethod, '/')+1:]
	switch m {
	case "Version", "ImageFsInfo", "RuntimeConfig", "ContainerStats", "PodSandboxStats", "GetContainerEvents":
		return true
	}
	return strings.HasPrefix(m, "List") || strings.HasPrefix(m, "Stream") || strings.HasSuffix(m, "Status")
}
