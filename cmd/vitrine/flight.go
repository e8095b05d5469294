package main

import (
	"fmt"
	"io"
	"net/url"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

func flightCommand(o *options) *cobra.Command {
	var last int
	c := &cobra.Command{
		Use:   "flight POD|CONTAINER",
		Short: "Show the last system calls of a container that ended with an error",
		Long: `Show the last system calls, at most 256, of a container with a flight recorder
(annotation io.vitrine.flight, setting runtime.observe.flight): of one that has ended
with an error up to the end of its PID 1, of one that runs up to now. A call of which
nothing came back is one that its thread ended in. Arguments are the first three, as
registers hold them; what they point to is not kept. POD and CONTAINER are as for
vitrine syscalls.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/flight?" + url.Values{"pod": args}.Encode()
			if o.json() {
				return o.copy(cmd.Context(), path, cmd.OutOrStdout())
			}
			var all []api.Flight
			if err := o.get(cmd.Context(), path, &all); err != nil {
				return err
			}
			return printFlights(cmd.OutOrStdout(), all, last)
		},
	}
	c.Flags().IntVarP(&last, "last", "n", 40, "show so many calls; 0 shows all")
	return c
}

func printFlights(w io.Writer, all []api.Flight, last int) error {
	for i, c := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		shown, before := c.Calls, c.Missed
		if last > 0 && len(shown) > last {
			before += uint64(len(shown) - last)
			shown = shown[len(shown)-last:]
		}
		fmt.Fprintf(w, "%s (%s)\n", oneLine(c.Pod+"/"+c.Container, 120), c.State)
		if before > 0 {
			fmt.Fprintf(w, "  … %d calls before these\n", before)
		}
		table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		for _, call := range shown {
			fmt.Fprintf(table, "  %s\t%s\t%d\t%s\n", clock(call.At), oneLine(call.Command, 16), call.TID, oneLine(call.String(), 160))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}
