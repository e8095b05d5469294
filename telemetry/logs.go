package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"

	"github.com/vitrine-runtime/vitrine/pod"
)

// logSink is the daemon's log: one handler, one level that can be changed.
type logSink struct {
	level slog.LevelVar
	// local is the log on this node, handler that and the export.
	local, handler slog.Handler
	exported       atomic.Pointer[exporter]
	// global: logrus is ours and follows the level.
	global atomic.Bool
}

func newLogSink(c Config) (*logSink, error) {
	s := &logSink{}
	level, err := parseLevel(c.LogLevel)
	if err != nil {
		return nil, err
	}
	s.level.Set(level)
	var out io.Writer = os.Stderr
	if c.LogOutput != nil {
		out = c.LogOutput
	}
	options := &slog.HandlerOptions{Level: &s.level}
	switch cmp.Or(c.LogFormat, "text") {
	case "text":
		s.local = withTrace{slog.NewTextHandler(out, options)}
	case "json":
		s.local = withTrace{slog.NewJSONHandler(out, options)}
	default:
		return nil, fmt.Errorf("%w: log format %q is neither text nor json", pod.ErrInvalid, c.LogFormat)
	}
	s.handler = exportedLog{Handler: s.local, to: &s.exported}
	return s, nil
}

func parseLevel(text string) (slog.Level, error) {
	switch strings.ToLower(text) {
	case "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("%w: log level %q is none of debug, info, warn, error", pod.ErrInvalid, text)
}

// SetLogLevel changes the level at run time: debug, info, warn or error.
func (t *Telemetry) SetLogLevel(level string) error {
	l, err := parseLevel(level)
	if err != nil {
		return err
	}
	t.logs.level.Set(l)
	t.logs.followLevel()
	return nil
}

// LogLevel is the level in force.
func (t *Telemetry) LogLevel() string { return strings.ToLower(t.logs.level.Level().String()) }

// withTrace adds trace_id and span_id of the context's span to each record.
type withTrace struct{ slog.Handler }

// Handle adds the ids and passes on.
func (h withTrace) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the ids.
func (h withTrace) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withTrace{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the ids, within the group.
func (h withTrace) WithGroup(name string) slog.Handler { return withTrace{h.Handler.WithGroup(name)} }

// occasionally returns a function that logs an error as a warning, at most once per
// interval, with how many were passed over.
func (s *logSink) occasionally(message string, interval time.Duration) func(error) {
	var mu sync.Mutex // guards the two below
	var last time.Time
	var silent int
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if !last.IsZero() && time.Since(last) < interval {
			silent++
			return
		}
		slog.New(s.handler).Warn(message, "cause", err, "passed_over", silent)
		last, silent = time.Now(), 0
	}
}

// InstallGlobals makes this the log of the process: slog's default, logrus (which
// the storage and image libraries use), and the errors of the OpenTelemetry SDK.
// Only a main package calls it.
func (t *Telemetry) InstallGlobals() {
	slog.SetDefault(t.Logger())
	logrus.SetOutput(io.Discard)
	logrus.SetFormatter(noFormat{})
	logrus.StandardLogger().ReplaceHooks(logrus.LevelHooks{})
	logrus.AddHook(logrusHook{t.logs.handler})
	t.logs.global.Store(true)
	t.logs.followLevel()
	report := t.logs.occasionally("telemetry library reports an error", time.Minute)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(report))
}

// followLevel spares logrus the formatting of what slog would not take.
func (s *logSink) followLevel() {
	if !s.global.Load() {
		return
	}
	switch level := s.level.Level(); {
	case level <= slog.LevelDebug:
		logrus.SetLevel(logrus.DebugLevel)
	case level <= slog.LevelInfo:
		logrus.SetLevel(logrus.InfoLevel)
	case level <= slog.LevelWarn:
		logrus.SetLevel(logrus.WarnLevel)
	default:
		logrus.SetLevel(logrus.ErrorLevel)
	}
}

// noFormat keeps logrus from formatting entries that only the hook reads.
type noFormat struct{}

// Format returns nothing.
func (noFormat) Format(*logrus.Entry) ([]byte, error) { return nil, nil }

// logrusHook passes logrus entries on to slog.
type logrusHook struct{ handler slog.Handler }

// Levels are all.
func (logrusHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire writes the entry with its fields, without the secrets that a library may have
// put there.
func (h logrusHook) Fire(e *logrus.Entry) error {
	ctx := e.Context
	if ctx == nil {
		ctx = context.Background()
	}
	level := slog.LevelDebug
	switch e.Level {
	case logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel:
		level = slog.LevelError
	case logrus.WarnLevel:
		level = slog.LevelWarn
	case logrus.InfoLevel:
		level = slog.LevelInfo
	}
	if !h.handler.Enabled(ctx, level) {
		return nil
	}
	r := slog.NewRecord(e.Time, level, scrub(e.Message), 0)
	for key, value := range e.Data {
		switch value.(type) {
		case bool, int, int64, uint64, float64, time.Duration:
		default:
			value = scrub(fmt.Sprint(value))
		}
		r.AddAttrs(slog.Any(key, value))
	}
	return h.handler.Handle(ctx, r)
}
