package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

func syscallsCommand(o *options) *cobra.Command {
	var bound time.Duration
	var latency bool
	c := &cobra.Command{
		Use:   "syscalls [--for TIME [--latency]] POD|CONTAINER",
		Short: "Show how often a container makes which system calls, how often they fail and how long they take",
		Long: `Show how often a container makes which system calls, and how often they fail. With
--for the running containers are watched that long, or until they end; --latency times
one call in 64 as well. Without --for it is shown what has been counted of containers
that are watched all their life (annotation io.vitrine.syscalls, setting
runtime.observe.syscalls), also after their end.

While anybody watches, every process of the node pays some ten nanoseconds for each of
its system calls; nothing stays attached afterwards. At most 16 containers can be
watched at a time. exit, exit_group and rt_sigreturn do not return and are not counted.
The times are upper bounds, in powers of 2: half of the timed calls took at most P50.
POD is namespace/pod, a pod's name or uid, or the first six digits or more of an id;
CONTAINER is namespace/pod/container.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"pod": args}
			switch {
			case latency && bound == 0:
				return fmt.Errorf("--latency goes with --for; the annotation io.vitrine.syscalls: latency is for a container's life")
			case cmd.Flags().Changed("for") && bound <= 0:
				return fmt.Errorf("--for %v is not above 0", bound)
			case bound > 0:
				query.Set("for", bound.String())
			}
			if latency {
				query.Set("latency", "1")
			}
			var raw json.RawMessage
			if err := o.fetch(cmd.Context(), http.MethodGet, "/v1/syscalls?"+query.Encode(), bound+answerTime, &raw); err != nil {
				return err
			}
			if o.json() {
				return printJSON(cmd.OutOrStdout(), raw)
			}
			var all []api.Syscalls
			if err := json.Unmarshal(raw, &all); err != nil {
				return fmt.Errorf("read the daemon's answer: %w", err)
			}
			return printSyscalls(cmd.OutOrStdout(), all)
		},
	}
	c.Flags().DurationVar(&bound, "for", 0, "watch so long, for example 30s")
	c.Flags().BoolVar(&latency, "latency", false, "time one call in 64")
	return c
}

func printSyscalls(w io.Writer, all []api.Syscalls) error {
	for i, c := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		took := c.To.Sub(c.From)
		begin := ""
		if c.Whole {
			begin = ", from its first call on"
		}
		fmt.Fprintf(w, "%s (%s), counted for %s from %s on%s\n", oneLine(c.Pod+"/"+c.Container, 120), c.State, took.Round(time.Millisecond), clock(c.From), begin)
		if len(c.Calls) == 0 {
			fmt.Fprintln(w, "  it made no system call")
			continue
		}
		timed := false
		for _, s := range c.Calls {
			timed = timed || s.Samples > 0
		}
		table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		head := "  SYSCALL\tCALLS\tPER SECOND\tERRORS"
		if timed {
			head += "\tTIMED\tP50\tP90\tP99"
		}
		fmt.Fprintln(table, head)
		for _, s := range c.Calls {
			fmt.Fprintf(table, "  %s\t%d\t%s\t%d", s.Name, s.Calls, rate(s.Calls, took), s.Errors)
			if timed && s.Samples > 0 {
				fmt.Fprintf(table, "\t%d\t%v\t%v\t%v", s.Samples, s.P50, s.P90, s.P99)
			}
			fmt.Fprintln(table)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func rate(n uint64, took time.Duration) string {
	if took <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", float64(n)/took.Seconds())
}
