package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
)

// report collects samples by metric, target and round. It is safe for concurrent use.
type report struct {
	round int // set between rounds only
	steps []*steps

	mu      sync.Mutex // guards the fields below
	metrics []string   // in order of their first sample
	units   map[string]string
	samples map[string]map[string]map[int][]float64 // metric → target → round
}

// The unit decides how a metric reads: time, or a rate of which more is better.
const (
	milliseconds = "ms"
	perSecond    = "/s"
	mbPerSecond  = "MB/s"
	kibibytes    = "KiB"
	nanoseconds  = "ns"
)

// kernel is the target's name of the floor.
const kernel = "kernel"

func newReport() *report {
	return &report{units: map[string]string{}, samples: map[string]map[string]map[int][]float64{}}
}

func (r *report) add(target, metric, unit string, value float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.samples[metric] == nil {
		r.metrics = append(r.metrics, metric)
		r.units[metric] = unit
		r.samples[metric] = map[string]map[int][]float64{}
	}
	if r.samples[metric][target] == nil {
		r.samples[metric][target] = map[int][]float64{}
	}
	r.samples[metric][target][r.round] = append(r.samples[metric][target][r.round], value)
}

// figure sums up one metric of one target.
type figure struct {
	Metric string  `json:"metric"`
	Unit   string  `json:"unit"`
	Target string  `json:"target"`
	Median float64 `json:"median"`
	P90    float64 `json:"p90"`
	N      int     `json:"n"`
	// Ratio is vitrine's median over this target's: the median of the rounds'
	// ratios, with the least and the greatest; 0 for vitrine itself.
	Ratio    float64 `json:"ratio,omitempty"`
	RatioMin float64 `json:"ratioMin,omitempty"`
	RatioMax float64 `json:"ratioMax,omitempty"`
}

func (r *report) figures(targets []string) []figure {
	var all []figure
	for _, metric := range r.metrics {
		for _, t := range targets {
			rounds := r.samples[metric][t]
			if rounds == nil {
				continue
			}
			f := figure{Metric: metric, Unit: r.units[metric], Target: t}
			var pooled, ratios []float64
			for n, values := range rounds {
				pooled = append(pooled, values...)
				if own := r.samples[metric]["vitrine"][n]; t != "vitrine" && len(own) > 0 && quantile(own, 0.5) > 0 && quantile(values, 0.5) > 0 {
					ratios = append(ratios, quantile(own, 0.5)/quantile(values, 0.5))
				}
			}
			f.Median, f.P90, f.N = quantile(pooled, 0.5), quantile(pooled, 0.9), len(pooled)
			if len(ratios) > 0 {
				f.Ratio, f.RatioMin, f.RatioMax = quantile(ratios, 0.5), slices.Min(ratios), slices.Max(ratios)
			}
			all = append(all, f)
		}
	}
	return all
}

func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func (r *report) print(w io.Writer, targets []*target) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "metric\truntime\tmedian\tp90\tn\tvitrine/this")
	last := ""
	for _, f := range r.figures(names(targets)) {
		metric := f.Metric
		if metric == last {
			metric = ""
		}
		last = f.Metric
		ratio := ""
		if f.Ratio != 0 {
			format := "%.2f [%.2f %.2f]"
			if f.Target == unobserved { // of which half a percent counts
				format = "%.4f [%.4f %.4f]"
			}
			ratio = fmt.Sprintf(format, f.Ratio, f.RatioMin, f.RatioMax)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s %s\t%s\t%d\t%s\n", metric, f.Target, short(f.Median), f.Unit, short(f.P90), f.N, ratio)
	}
	tw.Flush()
}

func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func (r *report) writeJSON(path string) error {
	var targets []string
	for _, byTarget := range r.samples {
		for t := range byTarget {
			if !slices.Contains(targets, t) {
				targets = append(targets, t)
			}
		}
	}
	slices.Sort(targets)
	raw, err := json.MarshalIndent(map[string]any{"kernel": kernelRelease(), "figures": r.figures(targets)}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

func names(targets []*target) []string {
	list := []string{}
	for _, t := range targets {
		list = append(list, t.name)
	}
	return append(list, conmonName, kernel, unwatched, unobserved)
}

func kernelRelease() string {
	raw, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(raw))
}
