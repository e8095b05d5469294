package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// minInterval keeps a person from costing the node more than the containers do.
const minInterval = 100 * time.Millisecond

func topCommand(o *options) *cobra.Command {
	var follow bool
	var interval time.Duration
	c := &cobra.Command{
		Use:   "top",
		Short: "Show what running containers use: CPU, throttling, memory, pressure, tasks, log",
		Long: `Show what running containers use, those that use most CPU first. Rates are those of
one interval: CPU in thousandths of one CPU, the share of CFS periods in which the
container stood still for its CPU limit, and bytes of log. MEMORY is the working set.
CPU-P, MEM-P and IO-P are the share of the last ten seconds in which some task waited
(PSI); "-" where the kernel keeps no account of it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < minInterval {
				return fmt.Errorf("interval %v is below %v", interval, minInterval)
			}
			err := o.watchTop(cmd.Context(), cmd.OutOrStdout(), interval, follow)
			if follow && errors.Is(err, context.Canceled) {
				return nil // the person has seen enough
			}
			return err
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "again every interval until interrupted")
	c.Flags().DurationVar(&interval, "interval", time.Second, "time that rates are of")
	return c
}

// watchTop asks twice, an interval apart, and shows the difference; again if follow.
func (o *options) watchTop(ctx context.Context, w io.Writer, interval time.Duration, follow bool) error {
	_, terminal := terminalWidth(w)
	var before []api.Usage
	if err := o.get(ctx, "/v1/top", &before); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(interval):
		}
		var now []api.Usage
		if err := o.get(ctx, "/v1/top", &now); err != nil {
			return err
		}
		if follow && terminal && !o.json() {
			fmt.Fprint(w, "\x1b[H\x1b[2J") // to the top, and clear
		}
		if err := o.printTop(w, rates(before, now)); err != nil || !follow {
			return err
		}
		before = now
	}
}

// usageRate is one line: a container's usage with its rates over the interval.
type usageRate struct {
	api.Usage
	// CPUs are processors' worth; Stalled is the share, 0 to 1, of CFS periods that
	// were throttled; LogRate is bytes per second.
	CPUs    float64 `json:"cpus"`
	Stalled float64 `json:"throttledShare"`
	LogRate float64 `json:"logBytesPerSecond"`
}

// rates compares two looks; a container that the first did not see has no line yet.
func rates(before, now []api.Usage) []usageRate {
	old := map[string]api.Usage{}
	for _, u := range before {
		old[string(u.ID)] = u
	}
	lines := []usageRate{}
	for _, u := range now {
		was, seen := old[string(u.ID)]
		if !seen {
			continue
		}
		line := usageRate{Usage: u}
		if took := u.At.Sub(was.At).Seconds(); took > 0 {
			line.CPUs = max(0, (u.CPU-was.CPU).Seconds()/took)
			line.LogRate = max(0, float64(u.LogBytes-was.LogBytes)/took)
		}
		if periods := u.Periods - was.Periods; u.Periods > was.Periods {
			line.Stalled = float64(u.ThrottledPeriods-was.ThrottledPeriods) / float64(periods)
		}
		lines = append(lines, line)
	}
	slices.SortStableFunc(lines, func(a, b usageRate) int { return cmp.Compare(b.CPUs, a.CPUs) })
	return lines
}

func (o *options) printTop(w io.Writer, lines []usageRate) error {
	if o.json() {
		return printJSON(w, lines)
	}
	if len(lines) == 0 {
		_, err := fmt.Fprintln(w, "no container is running")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "CONTAINER\tCPU\tTHROTTLED\tMEMORY\tLIMIT\tCPU-P\tMEM-P\tIO-P\tTASKS\tLOG/S\tLOG LOST")
	for _, l := range lines {
		throttled, cpu, memory, io := "-", "-", "-", "-"
		if l.Periods > 0 {
			throttled = fmt.Sprintf("%.0f%%", l.Stalled*100)
		}
		if p := l.Pressure; p != nil {
			cpu, memory, io = fmt.Sprintf("%.1f%%", p.CPU), fmt.Sprintf("%.1f%%", p.Memory), fmt.Sprintf("%.1f%%", p.IO)
		}
		tasks := fmt.Sprint(l.Tasks)
		if l.TaskLimit > 0 {
			tasks += fmt.Sprintf("/%d", l.TaskLimit)
		}
		fmt.Fprintf(table, "%s\t%.0fm\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", oneLine(l.Pod+"/"+l.Container, 80), l.CPUs*1000, throttled,
			bytesText(l.Memory), bytesText(l.MemoryLimit), cpu, memory, io, tasks, bytesText(uint64(l.LogRate)), bytesText(uint64(max(0, l.LogDropped))))
	}
	return table.Flush()
}
