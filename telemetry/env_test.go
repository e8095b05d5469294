package telemetry

import (
	"strings"
	"testing"
	"time"
)

func TestEndpointOfASignalFollowsTheSpecification(t *testing.T) {
	for name, c := range map[string]struct {
		config  Config
		env     map[string]string
		of      signal
		want    string
		enabled bool
	}{
		"nothing":              {},
		"base, http":           {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:4318/", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, want: "https://c:4318/v1/logs", enabled: true},
		"base with a path":     {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c/otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, of: traces, want: "https://c/otlp/v1/traces", enabled: true},
		"own, http":            {env: map[string]string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://c:4318/x", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, want: "https://c:4318/x", enabled: true},
		"own of another":       {env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c:4318/x"}},
		"base, grpc":           {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, want: "c:4317", enabled: true},
		"base, grpc, path":     {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317/ignored"}, of: metered, want: "c:4317", enabled: true},
		"file, traces' path":   {config: Config{Endpoint: "http://c:4318/v1/traces", Protocol: protocolHTTP}, want: "http://c:4318/v1/logs", enabled: true},
		"file, base, traces":   {config: Config{Endpoint: "http://c:4318", Protocol: protocolHTTP}, of: traces, want: "http://c:4318/v1/traces", enabled: true},
		"none wanted":          {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_LOGS_EXPORTER": "none"}},
		"another unwanted":     {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, want: "c", enabled: true},
		"only prometheus":      {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_METRICS_EXPORTER": "prometheus"}, of: metered},
		"otlp and prometheus":  {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_METRICS_EXPORTER": "otlp,prometheus"}, of: metered, want: "c", enabled: true},
		"wanted, standard":     {env: map[string]string{"OTEL_LOGS_EXPORTER": "otlp"}, want: "localhost:4317", enabled: true},
		"SDK disabled":         {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}},
		"not among the file's": {config: Config{Endpoint: "http://c", Signals: []string{"traces"}}},
		"among the file's":     {config: Config{Endpoint: "http://c", Signals: []string{"traces", "logs"}}, want: "c", enabled: true},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range c.env {
				t.Setenv(key, value)
			}
			if c.of == "" {
				c.of = logs
			}
			e := &environment{}
			s, enabled, err := e.readExportSettings(c.config, c.of)
			if err != nil || len(e.notes) > 0 || enabled != c.enabled || enabled && s.target != c.want {
				t.Errorf("%q, %v, %v, notes %q; want %q, %v", s.target, enabled, err, e.notes, c.want, c.enabled)
			}
		})
	}
}

func TestEachVariableOfExportHasItsEffect(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317", "OTEL_EXPORTER_OTLP_INSECURE": "true", "OTEL_EXPORTER_OTLP_METRICS_INSECURE": "false",
		"OTEL_EXPORTER_OTLP_HEADERS": "a=1", "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "b=x%20y",
		"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "none",
		"OTEL_EXPORTER_OTLP_TIMEOUT": "2000", "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "700", "OTEL_METRIC_EXPORT_TIMEOUT": "900",
		"OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/cert", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/key",
		"OTEL_BSP_SCHEDULE_DELAY": "11", "OTEL_BSP_MAX_QUEUE_SIZE": "12", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
		"OTEL_BLRP_SCHEDULE_DELAY": "21", "OTEL_BLRP_MAX_QUEUE_SIZE": "22", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "20",
		"OTEL_METRIC_EXPORT_INTERVAL": "31000",
	} {
		t.Setenv(name, value)
	}
	e := &environment{}
	got := map[signal]exportSettings{}
	for _, of := range []signal{traces, logs, metered} {
		s, enabled, err := e.readExportSettings(Config{}, of)
		if !enabled || err != nil || s.caFile != "/ca" || s.certFile != "/cert" || s.keyFile != "/key" {
			t.Errorf("%s: %v, %v, %+v", of, enabled, err, s)
		}
		got[of] = s
	}
	check := func(what string, ok bool) {
		if !ok {
			t.Errorf("%s: %+v", what, got)
		}
	}
	check("insecure", got[traces].plain && !got[metered].plain)
	check("headers", got[traces].headers["a"] == "1" && got[logs].headers["b"] == "x y" && len(got[logs].headers) == 1)
	check("compression", !got[traces].gzip && got[logs].gzip)
	check("timeout", got[traces].timeout == 2*time.Second && got[logs].timeout == 700*time.Millisecond && got[metered].timeout == 900*time.Millisecond)
	check("batches", got[traces].queue == 12 && got[traces].batch == 10 && got[traces].delay == 11*time.Millisecond &&
		got[logs].queue == 22 && got[logs].batch == 20 && got[logs].delay == 21*time.Millisecond)
	check("interval", got[metered].interval == 31*time.Second)
	if len(e.notes) > 0 {
		t.Errorf("notes %q", e.notes)
	}
}

func TestWhatIsNotServedIsNamedWithoutItsSecrets(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_HEADERS": "hunter2",
		"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_COMPRESSION": "lzma", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
		"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
	} {
		t.Setenv(name, value)
	}
	e := &environment{}
	if _, enabled, err := e.readExportSettings(Config{}, metered); !enabled || err != nil {
		t.Fatal(enabled, err)
	}
	notes := strings.Join(e.notes, "\n")
	for _, want := range []string{"HEADERS", "http/json", "lzma", "soon", "TEMPORALITY"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note of %s: %s", want, notes)
		}
	}
	if strings.Contains(notes, "hunter2") {
		t.Errorf("a header is told: %s", notes)
	}
}
