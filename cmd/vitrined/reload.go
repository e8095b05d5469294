package main

import (
	"log/slog"
	"reflect"
	"time"
)

// reloadable are the keys that take effect on SIGHUP. Registries, policies and CNI
// configurations need no signal: they are read when they are used.
var reloadable = map[string]func(*daemon, *Config) error{
	"telemetry.log_level": func(d *daemon, next *Config) error { return d.telemetry.SetLogLevel(next.Telemetry.LogLevel) },
}

// reload reads the configuration again. A file that cannot be read changes
// nothing; a changed key that needs a restart is named.
func (d *daemon) reload() {
	next, err := loadConfig(d.flags)
	if err != nil {
		slog.Error("reload configuration; the old one stays in force", "error", err)
		d.reloaded.Store(&reloadOutcome{at: time.Now()})
		return
	}
	outcome := &reloadOutcome{ok: true, at: time.Now()}
	defer d.reloaded.Store(outcome)
	before := map[string]any{}
	for _, s := range d.config.settings() {
		before[s.Key] = s.Value
	}
	for _, s := range next.settings() {
		if reflect.DeepEqual(before[s.Key], s.Value) {
			continue
		}
		apply, safe := reloadable[s.Key]
		if !safe {
			slog.Warn("changed setting takes effect after a restart", "key", s.Key, "value", s.Value)
			continue
		}
		if err := apply(d, next); err != nil {
			slog.Error("reload a setting; the old value stays in force", "key", s.Key, "error", err)
			outcome.ok = false
			continue
		}
		if field, ok := fieldOf(d.config, s.Key); ok {
			field.Set(reflect.ValueOf(s.Value))
			d.config.sources[s.Key] = next.source(s.Key)
		}
		slog.Info("setting reloaded", "key", s.Key, "value", s.Value)
	}
}
