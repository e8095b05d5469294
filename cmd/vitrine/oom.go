package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

func oomCommand(o *options) *cobra.Command {
	var scene bool
	c := &cobra.Command{
		Use:   "oom [POD]",
		Short: "Show who was killed for want of memory, and whose limit ran out",
		Long: `Show the OOM kills on the records of the containers that there are, the latest
first. POD is namespace/pod, a pod's name or uid, or the first six digits or more of an id.

With --scene each kill is followed by the largest processes of that moment, of all below the
limit that was reached, what the memory below it was, and what each level had of what it may
have. The kernel's programs take that down at the kill, before the victim gives anything
back; without them it is not known.`,
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
			if len(kills) == 0 {
				return o.noKills(cmd.Context(), cmd.OutOrStdout())
			}
			if scene {
				return printScenes(cmd.OutOrStdout(), kills)
			}
			return printOOM(cmd.OutOrStdout(), kills)
		},
	}
	c.Flags().BoolVar(&scene, "scene", false, "also who held the memory at the kill, and what it was")
	return c
}

// printScenes prints each kill with its scene.
func printScenes(w io.Writer, kills []api.OOM) error {
	for i, k := range kills {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := printOOM(w, kills[i:i+1]); err != nil {
			return err
		}
		if k.Scene == nil {
			fmt.Fprintln(w, "  who held the memory then is not known")
			continue
		}
		if err := printScene(w, *k.Scene, k.ID); err != nil {
			return err
		}
	}
	return nil
}

// noKills says so, and if it does not mean much.
func (o *options) noKills(ctx context.Context, w io.Writer) error {
	fmt.Fprintln(w, "no OOM kill is on record")
	var features []api.Feature
	if err := o.get(ctx, "/v1/check", &features); err != nil {
		return err
	}
	for _, f := range features {
		if !f.OK && (f.Feature == "eBPF" || f.Feature == "eBPF OOM kills") {
			fmt.Fprintf(w, "kills are not observed on this node: %s\n", oneLine(f.Consequence, 400))
		}
	}
	return nil
}

func printScene(w io.Writer, s pod.Scene, own pod.ID) error {
	cut := ""
	if s.LookedAt > 0 {
		cut = fmt.Sprintf(", as far as %d of the node's were looked at", s.LookedAt)
	}
	fmt.Fprintf(w, "  the %d largest of %d processes%s:\n", len(s.Largest), s.Processes, cut)
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "  PROCESS\tPID\tCONTAINER\tHELD\tANON\tFILE\tSHMEM\tSWAP\tSCORE ADJ")
	for _, p := range s.Largest {
		where := "-"
		switch {
		case p.Container == own:
			where = "this"
		case p.Container != "":
			where = fmt.Sprintf("%.13s", p.Container)
		}
		fmt.Fprintf(table, "  %s (%d)\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", oneLine(p.Command, 16), p.ContainerPID, p.PID, where,
			bytesText(p.Held()), bytesText(p.Anon), bytesText(p.File), bytesText(p.Shmem), bytesText(p.Swapped), p.ScoreAdj)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if m := s.Split; m != nil {
		some := func(n uint64) string {
			if n == 0 {
				return "none"
			}
			return bytesText(n)
		}
		fmt.Fprintf(w, "  the memory: %s anonymous, %s of files, %s shared or in a tmpfs, %s the kernel's (%s of it slabs), %s of sockets\n",
			some(m.Anon), some(m.File), some(m.Shmem), some(m.Kernel), some(m.Slab), some(m.Sock))
	} else {
		fmt.Fprintln(w, "  what the memory was is not known: no limit was hit, or the kernel's figures did not add up to the usage")
	}
	for _, l := range s.Levels {
		limit := "no limit"
		if l.Limit > 0 {
			limit = "a limit of " + bytesText(l.Limit)
		}
		level := l.Level
		if level == "" {
			level = "unknown"
		}
		fmt.Fprintf(w, "  %s: %s of %s\n", level, bytesText(l.Usage), limit)
	}
	return nil
}

func printOOM(w io.Writer, kills []api.OOM) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "TIME\tPOD\tVICTIM\tPID\tLIMIT OF\tLIMIT\tUSAGE\tANON\tFILE\tSHMEM\tSWAP\tCONTAINER IS")
	for _, k := range kills {
		victim := fmt.Sprintf("%s (%d)", oneLine(k.Victim.Command, 16), k.Victim.ContainerPID)
		switch {
		case k.Init:
			victim += " init"
		case k.Exec:
			victim += " exec"
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
