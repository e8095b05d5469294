package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/oom/denial"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// gauges registers who answers for the gauges that are read at each scrape.
func (d *daemon) gauges() {
	count := func(states map[string]int) func(emit func(float64, ...string)) {
		return func(emit func(float64, ...string)) {
			for state, n := range states {
				emit(float64(n), state)
			}
		}
	}
	for name, read := range map[string]func(emit func(float64, ...string)){
		"sandboxes":  func(emit func(float64, ...string)) { count(everyState("sandboxes", d.sandboxStates()))(emit) },
		"containers": func(emit func(float64, ...string)) { count(everyState("containers", d.containerStates()))(emit) },
		"images": func(emit func(float64, ...string)) {
			if images, err := d.images.List(context.Background()); err == nil {
				emit(float64(len(images)))
			}
		},
		"image_pull_waiters": func(emit func(float64, ...string)) {
			waiters := 0
			for _, p := range d.images.Pulls() {
				waiters += max(0, p.Waiters-1) // one of them pulls
			}
			emit(float64(waiters))
		},
		"storage_bytes": func(emit func(float64, ...string)) {
			if fs, err := d.images.FsInfo(context.Background()); err == nil {
				emit(float64(fs.Images.Bytes), "layer")
				emit(float64(fs.Containers.Bytes), "rw")
			}
			if bytes, known := d.pods.LogBytes(); known {
				emit(float64(bytes), "log")
			}
		},
		"kernel_events_lost": func(emit func(float64, ...string)) {
			for kind, n := range d.programs.lost() {
				emit(float64(n), kind)
			}
		},
		"denials_total": func(emit func(float64, ...string)) {
			counts := d.programs.denied()
			asked := d.pods.Asked(context.Background())
			if counts == nil && asked > 0 { // no program is loaded, and monitors count all the same
				counts = map[string]uint64{}
			}
			if counts != nil {
				counts[seccompLayer] += asked
			}
			for layer, n := range counts {
				emit(float64(n), layer)
			}
		},
		"log_write_stall_seconds_total": func(emit func(float64, ...string)) { emit(d.pods.LogStalled().Seconds()) },
		"syscall_watches":               func(emit func(float64, ...string)) { count(d.pods.Watching())(emit) },
		"network_ready":                 func(emit func(float64, ...string)) { emit(truth(d.pods.NetworkReady() == nil)) },
		"monitor_up":                    func(emit func(float64, ...string)) { emit(float64(d.pods.Monitors().Connected)) },
		"monitor_resident_memory_bytes": func(emit func(float64, ...string)) {
			m := d.pods.Monitors()
			emit(float64(m.ResidentSum), "sum")
			emit(float64(m.ResidentMax), "max")
		},
		"monitor_spares_ready": func(emit func(float64, ...string)) { emit(float64(d.pods.Spares())) },
		"runtime_info": func(emit func(float64, ...string)) {
			for _, h := range d.pods.Handlers() {
				if h.Name != "" {
					emit(1, h.Name, version)
				}
			}
		},
		"config_last_reload_successful":        func(emit func(float64, ...string)) { emit(truth(d.reloaded.Load().ok)) },
		"config_last_reload_timestamp_seconds": func(emit func(float64, ...string)) { emit(float64(d.reloaded.Load().at.UnixMilli()) / 1000) },
	} {
		if err := d.telemetry.Provide(name, read); err != nil {
			slog.Error("register a gauge", "gauge", name, "error", err) // a name that is not on the list is a bug
		}
	}
}

// seccompLayer is the layer of what monitors are asked about.
var seccompLayer = denial.Layer(ebpf.Seccomp)

// everyState adds the states that nothing is in: a series is there before the first
// sandbox and after the last, with 0.
func everyState(family string, states map[string]int) map[string]int {
	for _, i := range telemetry.Instruments {
		if i.Name == family {
			for _, state := range i.Labels[0].Values {
				states[state] += 0
			}
		}
	}
	return states
}

// reloadOutcome is how the last reading of the configuration went.
type reloadOutcome struct {
	ok bool
	at time.Time
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// sandboxStates and containerStates count what there is by state.
func (d *daemon) sandboxStates() map[string]int {
	states := map[string]int{}
	for _, sb := range d.pods.Sandboxes() {
		states[sb.State.String()]++
	}
	return states
}

func (d *daemon) containerStates() map[string]int {
	states := map[string]int{}
	for _, c := range d.pods.Containers() {
		states[c.State.String()]++
	}
	return states
}
