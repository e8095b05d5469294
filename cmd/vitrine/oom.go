package main

import (
	"fmt"
	"io"
	"net/url"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

func oomCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "oom [POD]",
		Short: "Show who was killed for want of memory, and whose limit ran out",
		Long: `Show the OOM kills on the records of the containers that there are, the latest
first. POD is namespace/pod, a pod's name or uid, or the first six digits or more of an id.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: o.completePods,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/oom"
			if len(args) == 1 {
				path += "?pod=" + url.QueryEscape(args[0])
			}
			if o.json() {
				return o.copy(cmd.Context(), path, cmd.OutOrStdout())
			}
			var kills []api.OOM
			if err := o.get(cmd.Context(), path, &kills); err != nil {
				return err
			}
			return printOOM(cmd.OutOrStdout(), kills)
		},
	}
}

func printOOM(w io.Writer, kills []api.OOM) error {
	if len(kills) == 0 {
		_, err := fmt.Fprintln(w, "no OOM kill is on record")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "TIME\tPOD\tVICTIM\tPID\tLIMIT OF\tLIMIT\tUSAGE\tANON\tFILE\tSHMEM\tSWAP\tCONTAINER IS")
	for _, k := range kills {
		victim := fmt.Sprintf("%s (%d)", oneLine(k.Victim.Command, 16), k.Victim.ContainerPID)
		if k.Init {
			victim += " init"
		}
		level := k.Level
		switch {
		case level == "":
			level = "unknown"
		case k.Likely:
			level += "?"
		}
		state := k.State
		if k.Reason != "" {
			state += ", " + oneLine(k.Reason, 40)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.At.Local().Format("15:04:05.000"), oneLine(k.Pod+"/"+k.Container, 80), victim,
			k.Victim.PID, level, bytesText(k.Limit), bytesText(k.Usage), bytesText(k.Anon), bytesText(k.File), bytesText(k.Shmem), bytesText(k.Swapped), state)
	}
	return table.Flush()
}

// bytesText is in the units in which limits are written in Kubernetes.
func bytesText(n uint64) string {
	switch {
	case n == 0:
		return "-"
	case n >= 1<<30:
		return fmt.Sprintf("%.1fGi", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1fMi", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1fKi", float64(n)/(1<<10))
}
