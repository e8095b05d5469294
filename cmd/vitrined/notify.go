package main

import (
	"context"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// notifyReady tells systemd, where there is one, that the daemon serves.
func notifyReady() { notify(systemd.SdNotifyReady) }

// notifyStopping tells systemd that the end is wanted.
func notifyStopping() { notify(systemd.SdNotifyStopping) }

func notify(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		slog.Warn("tell systemd", "state", state, "error", err)
	}
}

// watchdog reports to systemd's watchdog for as long as healthy answers in time.
// It returns when ctx ends, and at once without a watchdog.
func watchdog(ctx context.Context, healthy func(context.Context) error) {
	interval, err := systemd.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			check, cancel := context.WithTimeout(ctx, interval/2)
			err := healthy(check)
			cancel()
			if err != nil {
				slog.Error("the daemon does not answer itself; the watchdog is not fed", "error", err)
				continue
			}
			notify(systemd.SdNotifyWatchdog)
		}
	}
}
