package telemetry

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
)

func TestLogLinesCarryTheirSpan(t *testing.T) {
	tel, log := start(t, Config{LogFormat: "json"})
	ctx, span := Start(tel.Context(t.Context()), "network.attach")
	defer span.End(nil)
	tel.Logger().With("pod", "web").InfoContext(ctx, "network attached")
	var line map[string]any
	if err := json.Unmarshal([]byte(log.String()), &line); err != nil {
		t.Fatal(err)
	}
	if sc := span.span.SpanContext(); line["trace_id"] != sc.TraceID().String() || line["span_id"] != sc.SpanID().String() || line["pod"] != "web" {
		t.Errorf("line %v", line)
	}
}

func TestLevelChangesAtRunTimeForSlogAndLogrus(t *testing.T) {
	tel, log := start(t, Config{LogLevel: "warn"})
	before := slog.Default()
	tel.InstallGlobals()
	t.Cleanup(func() {
		slog.SetDefault(before)
		logrus.StandardLogger().ReplaceHooks(logrus.LevelHooks{})
		logrus.SetOutput(io.Discard)
	})
	slog.Info("one")
	logrus.Info("two")
	logrus.WithError(errors.New("layer is locked")).WithField("layer", "abc").Warn("three")
	if err := tel.SetLogLevel("debug"); err != nil || tel.LogLevel() != "debug" {
		t.Fatal(err)
	}
	slog.Debug("four")
	logrus.Debugf("five %d", 5)
	got := log.String()
	for _, want := range []string{`level=WARN msg=three`, `error="layer is locked"`, "layer=abc", "level=DEBUG msg=four", `level=DEBUG msg="five 5"`} {
		if !strings.Contains(got, want) {
			t.Errorf("log lacks %s:\n%s", want, got)
		}
	}
	if strings.Contains(got, "one") || strings.Contains(got, "two") {
		t.Errorf("below the level:\n%s", got)
	}
	if err := tel.SetLogLevel("loud"); err == nil || tel.LogLevel() != "debug" {
		t.Errorf("a bad level: %v, now %s", err, tel.LogLevel())
	}
}
