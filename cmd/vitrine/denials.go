package main

import (
	"fmt"
	"io"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

func denialsCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "denials [POD|CONTAINER]",
		Short: "Show what containers were denied, and what would allow it",
		Long: `Show what containers were denied: seccomp's kills and traps, missing capabilities
and SELinux's denials always; seccomp's errors, read-only file systems and permissions
while the container's syscalls are watched (annotation io.vitrine.denials); seccomp's EPERM
also where its monitor is asked (annotation io.vitrine.seccomp.notifier). POD is namespace/pod, a pod's name or uid, or
the first six digits or more of an id; CONTAINER is namespace/pod/container.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/denials"
			if len(args) == 1 {
				path += "?pod=" + url.QueryEscape(args[0])
			}
			if o.json() {
				return o.copy(cmd.Context(), path, cmd.OutOrStdout())
			}
			var all []api.Denials
			if err := o.get(cmd.Context(), path, &all); err != nil {
				return err
			}
			return printDenials(cmd.OutOrStdout(), all)
		},
	}
}

func printDenials(w io.Writer, all []api.Denials) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "no denial is on record")
		return err
	}
	for _, c := range all {
		fmt.Fprintf(w, "%s (%s)\n", oneLine(c.Pod+"/"+c.Container, 120), c.State)
		switch {
		case !c.Observed:
			fmt.Fprintln(w, "  it was not observed from its start: what it was denied is not known")
		case len(c.Denials) == 0:
			fmt.Fprintln(w, "  nothing is known to have been denied")
		}
		table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		if len(c.Denials) > 0 {
			fmt.Fprintln(table, "  FIRST\tTIMES\tLAST\tBY\tWHAT\tWOULD BE ALLOWED BY")
		}
		for _, d := range c.Denials {
			fmt.Fprintf(table, "  %s\t%d\t%s\t%s\t%s\t%s\n", clock(d.First), d.Count, clock(d.Last), d.Layer, oneLine(d.What, 160), oneLine(d.Remedy, 160))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		if c.Lost > 0 {
			fmt.Fprintf(w, "  and %d more, which found no place in the ledger\n", c.Lost)
		}
	}
	return nil
}

func clock(t time.Time) string { return t.Local().Format("15:04:05.000") }
