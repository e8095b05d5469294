package why

import (
	"fmt"
	"math"
	"time"

	"github.com/vitrine-runtime/vitrine/telemetry/history"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// Stall is one reason for which a container stood still while it lived, worth telling.
type Stall struct {
	// Cause is that of a Fact, Weight how strongly it speaks for it.
	Cause  string
	Weight float64
	// Text is a predicate: "waited for the disk in 40 % of its life (4.00s)".
	Text string
	// Time is how long it stood still; zero where only events are counted, Events.
	Time   time.Duration
	Events uint64
}

// Stalls says for what a container stood still, by what its cgroup counted: for its CPU
// limit, for a CPU, for memory to be reclaimed, for the disk. What is part of every
// life is left out. life is how long it has run, or ran.
func Stalls(f history.Figures, life time.Duration) (all []Stall) {
	add := func(cause string, weight float64, took time.Duration, events uint64, format string, args ...any) {
		if weight > 0 {
			all = append(all, Stall{Cause: cause, Weight: weight, Time: took, Events: events, Text: fmt.Sprintf(format, args...)})
		}
	}
	if f.Periods >= 10 {
		share := float64(f.ThrottledPeriods) / float64(f.Periods)
		add("cpu.throttled", ramp(share, 0.2, 0.8, 0.3, 0.7), f.Throttled, f.ThrottledPeriods,
			"stood still for its CPU limit in %.0f %% of its periods, %s in all, using %s of CPU", share*100, waterfall.Duration(f.Throttled), waterfall.Duration(f.CPU))
	}
	if life < time.Second {
		return all
	}
	// Pressure of a CPU holds throttling too, which is told already; waiting in a queue does not.
	for _, p := range []struct {
		cause, what string
		stall       time.Duration
	}{{"cpu.pressure", "a CPU", max(0, f.CPUStall-f.Throttled)}, {"cpu.pressure", "a CPU that others were using", f.RunDelay}, {"memory.pressure", "memory to be reclaimed", f.MemoryStall}, {"io.pressure", "the disk", f.IOStall}} {
		p.stall = min(p.stall, life) // it may have waited before its program began
		if p.stall >= time.Second {
			share := float64(p.stall) / float64(life)
			add(p.cause, ramp(share, 0.3, 0.9, 0.2, 0.5), p.stall, 0, "waited for %s in %.0f %% of its life (%s)", p.what, share*100, waterfall.Duration(p.stall))
		}
	}
	magnitude := func(n uint64) float64 { return math.Log10(float64(max(n, 1))) }
	add("memory.pressure", ramp(magnitude(f.MemoryHigh), 2, 4, 0.3, 0.6), 0, f.MemoryHigh,
		"was above its memory.high %d times and had to reclaim before it went on", f.MemoryHigh)
	add("memory.pressure", ramp(magnitude(f.MemoryFailures), 3, 5, 0.2, 0.5), 0, f.MemoryFailures,
		"was at its memory limit %d times and had to reclaim before it went on", f.MemoryFailures)
	if rate := float64(f.MajorFaults) / life.Seconds(); f.MajorFaults >= 2000 {
		add("memory.pressure", ramp(rate, 50, 1000, 0.2, 0.4), 0, f.MajorFaults,
			"waited for pages to be read from disk %d times, %.0f a second", f.MajorFaults, rate)
	}
	return all
}
