package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

func seccompCommand(o *options) *cobra.Command {
	c := &cobra.Command{Use: "seccomp", Short: "Learn seccomp profiles from what containers do"}
	c.AddCommand(seccompLearnCommand(o), seccompProfileCommand(o))
	return c
}

func seccompLearnCommand(o *options) *cobra.Command {
	var end bool
	c := &cobra.Command{
		Use:   "learn POD|CONTAINER",
		Short: "Begin to note which system calls a running container makes",
		Long: `Begin to note which system calls a running container makes, until it ends, --end says
so or the daemon restarts. What it did before is not known: to learn from the first
system call on, give its pod the annotation io.vitrine.learn: "true" (allowed by
runtime.annotations), and let it do its whole work, its end included.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "learn"
			if end {
				what = "end"
			}
			var all []api.Learning
			if err := o.fetch(cmd.Context(), http.MethodPost, "/v1/seccomp/"+what+"?"+url.Values{"pod": args}.Encode(), answerTime, &all); err != nil {
				return err
			}
			if o.json() {
				return printJSON(cmd.OutOrStdout(), all)
			}
			for _, l := range all {
				text := "learned since " + clock(l.Since)
				switch {
				case l.Error != "":
					text = "not learned: " + l.Error
				case end:
					text = "no longer learned; vitrine seccomp profile shows what was"
				case l.Whole:
					text += ", from its first call on"
				default:
					text += "; what it called before is not known"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", oneLine(l.Pod+"/"+l.Container, 120), oneLine(text, 300))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&end, "end", false, "learn no longer; what was learned is kept")
	return c
}

func seccompProfileCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "profile CONTAINER",
		Short: "Print the seccomp profile that was learned of a container",
		Long: `Print the seccomp profile that was learned of a container, alive or ended, of its latest
attempt that was learned. With -o json it is the file that securityContext.seccompProfile
of type Localhost names, in the format of the OCI runtime specification: it allows what
the container called and what starts it, and answers all else with EPERM. What seccomp
answered while it was learned stays answered so: a learned profile is never wider than
the one that was in force.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			var p api.Profile
			if err := o.get(cmd.Context(), "/v1/seccomp/profile?"+url.Values{"pod": args}.Encode(), &p); err != nil {
				return err
			}
			if !p.Whole {
				fmt.Fprintf(cmd.ErrOrStderr(), "vitrine: learned from %s on: what the container called before, its start among it, may be missing\n", p.From.Local().Format(time.DateTime))
			}
			if o.json() {
				return printJSON(cmd.OutOrStdout(), p.Profile)
			}
			return printProfile(cmd.OutOrStdout(), p)
		},
	}
}

func printProfile(w io.Writer, p api.Profile) error {
	begin := "its first call"
	if !p.Whole {
		begin = clock(p.From)
	}
	fmt.Fprintf(w, "%s (%s), learned from %s to %s\n", oneLine(p.Pod+"/"+p.Container, 120), p.State, begin, clock(p.To))
	fmt.Fprintf(w, "  it made %d different system calls:\n    %s\n", len(p.Called), strings.Join(p.Called, " "))
	if len(p.Refused) > 0 {
		fmt.Fprintf(w, "  refused by seccomp, and so by the profile:\n    %s\n", strings.Join(p.Refused, " "))
	}
	_, err := fmt.Fprintln(w, "  -o json prints the profile, with what starts a container added")
	return err
}
