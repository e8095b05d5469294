package nri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/containerd/nri/pkg/adaptation"

	"github.com/vitrine-runtime/vitrine/telemetry"
)

// observer makes a span of each call of a plugin.
type observer struct{ p *Plugins }

// call is one call of a plugin: a plugin is never called twice at a time.
type call struct{ plugin, event string }

// RecordPluginLatency is told right before the outcome.
func (o observer) RecordPluginLatency(plugin, event string, latency time.Duration) {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	o.p.took[call{plugin, event}] = latency
}

// RecordPluginInvocation tells what became of the call.
func (o observer) RecordPluginInvocation(plugin, event string, err error) {
	now := time.Now()
	o.p.mu.Lock()
	ctx, latency := o.p.event, o.p.took[call{plugin, event}]
	delete(o.p.took, call{plugin, event})
	o.p.mu.Unlock()
	if event == "Synchronize" {
		ctx = o.p.ctx // nobody's request
	}
	_, span := telemetry.StartAt(ctx, now.Add(-latency), "nri.plugin",
		telemetry.KeyNRIPlugin.String(plugin), telemetry.KeyNRIEvent.String(event))
	span.End(&err)
	switch {
	case err == nil:
	case errors.Is(err, context.DeadlineExceeded):
		slog.ErrorContext(ctx, "a plugin does not answer", "plugin", plugin, "event", event, "after", latency)
	default:
		slog.WarnContext(ctx, "a plugin failed", "plugin", plugin, "event", event, "error", err)
	}
}

// RecordPluginAdjustments is not used: what came of them is in the specification.
func (observer) RecordPluginAdjustments(string, string, *adaptation.ContainerAdjustment, int, int) {}

// UpdatePluginCount tells how many plugins listen.
func (observer) UpdatePluginCount(count int) { slog.Debug("plugins listening", "count", count) }

// logger takes the library's lines. Its errors are plugins' failures, which the daemon
// copes with.
type logger struct{}

func (logger) line(ctx context.Context, level slog.Level, format string, args []any) {
	slog.Log(ctx, level, "plugin interface", "text", fmt.Sprintf(format, args...))
}

func (l logger) Debugf(ctx context.Context, format string, args ...any) {
	l.line(ctx, slog.LevelDebug, format, args)
}

func (l logger) Infof(ctx context.Context, format string, args ...any) {
	l.line(ctx, slog.LevelInfo, format, args)
}

func (l logger) Warnf(ctx context.Context, format string, args ...any) {
	l.line(ctx, slog.LevelWarn, format, args)
}

func (l logger) Errorf(ctx context.Context, format string, args ...any) {
	l.line(ctx, slog.LevelWarn, format, args)
}
