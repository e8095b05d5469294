package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

func pullsCommand(o *options) *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use:   "pulls",
		Short: "Show the image pulls under way: progress, rate, and when they will be done",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for {
				if err := o.showPulls(cmd.Context(), cmd.OutOrStdout()); err != nil || !follow {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return nil // the person has seen enough
				case <-time.After(time.Second):
				}
			}
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "again every second until interrupted")
	return c
}

func (o *options) showPulls(ctx context.Context, w io.Writer) error {
	if o.json() {
		return o.copy(ctx, "/v1/pulls", w)
	}
	var list api.Pulls
	if err := o.get(ctx, "/v1/pulls", &list); err != nil {
		return err
	}
	return printPulls(w, list.Pulls, time.Now())
}

// printPulls draws a bar for each pull. The rate is that of the whole time so far.
func printPulls(w io.Writer, pulls []api.Pull, now time.Time) error {
	if len(pulls) == 0 {
		_, err := fmt.Fprintln(w, "no pull is going on")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "IMAGE\tSTEP\tFOR\tPROGRESS\tRATE\tREADY IN\tWAITING")
	for _, p := range pulls {
		age := now.Sub(p.Since)
		progress, rate, eta := "manifest not known yet", "", ""
		if p.Total > 0 {
			progress = fmt.Sprintf("%s %s of %s", bar(float64(p.Bytes)/float64(p.Total)), size(p.Bytes), size(p.Total))
			if perSecond := float64(p.Bytes) / age.Seconds(); perSecond >= 1 {
				rate = size(int64(perSecond)) + "/s"
				eta = waterfall.Duration(time.Duration(float64(p.Total-p.Bytes) / perSecond * float64(time.Second)))
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", oneLine(p.Ref, 80), oneLine(p.Phase, 40), waterfall.Duration(age), progress, rate, eta, p.Waiters)
	}
	return table.Flush()
}

// bar is twenty columns wide.
func bar(share float64) string {
	const columns = 20
	full := int(min(max(share, 0), 1) * columns)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", columns-full) + "]"
}

// size is a number of bytes in binary units.
func size(n int64) string {
	const units = "KMGT"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/(1<<10), 0
	for value >= 1000 && unit < len(units)-1 {
		value, unit = value/(1<<10), unit+1
	}
	return fmt.Sprintf("%.3g %ciB", value, units[unit])
}
