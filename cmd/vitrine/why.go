package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/why"
)

func whyCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "why POD|CONTAINER|IMAGE",
		Short: "Say why a pod or container is slow, failed, was killed, or did not start",
		Long: `Find the cause of what happened to a pod, a container or an image, alive or gone: the
most likely one with its evidence and the next step, then what else speaks.

A pod is namespace/name, a name or a uid; a container is namespace/pod/name or an id;
an image is the reference that was pulled. Of ids and uids the first six digits are enough.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/why?" + url.Values{"subject": args}.Encode()
			if o.json() {
				return o.copy(cmd.Context(), path, cmd.OutOrStdout())
			}
			var v why.Verdict
			if err := o.get(cmd.Context(), path, &v); err != nil {
				return err
			}
			printVerdict(cmd.OutOrStdout(), v)
			return nil
		},
	}
}

// maxOthers bounds the further causes that are printed.
const maxOthers = 4

func printVerdict(w io.Writer, v why.Verdict) {
	fmt.Fprintf(w, "%s: %s\n\n", oneLine(v.Subject, 300), oneLine(v.State, 600))
	fmt.Fprintf(w, "  CAUSE  %s\n", oneLine(v.Cause.Sentence, 1200))
	if v.Cause.Name != why.None {
		fmt.Fprintf(w, "         %s, %s\n", v.Cause.Name, sure(v.Cause.Score))
	}
	fmt.Fprintf(w, "  NEXT   %s\n", oneLine(v.Cause.Next, 600))
	printFacts(w, v.Cause.Facts)
	for i, c := range v.Others {
		if i == 0 {
			fmt.Fprintln(w, "\nAlso:")
		}
		if i == maxOthers {
			fmt.Fprintf(w, "  … and %d more (-o json shows them)\n", len(v.Others)-maxOthers)
			break
		}
		fmt.Fprintf(w, "  %s (%s, %s)\n", oneLine(c.Sentence, 600), c.Name, sure(c.Score))
	}
}

func printFacts(w io.Writer, facts []why.Fact) {
	for i, f := range facts {
		if i == 0 {
			fmt.Fprintln(w, "\nEvidence:")
		}
		at := strings.Repeat(" ", 12)
		if !f.Time.IsZero() && f.Time.Unix() != 0 && f.Time.Year() > 1 {
			at = f.Time.Local().Format("15:04:05.000")
		}
		fmt.Fprintf(w, "  %s  %-7s  %s\n", at, oneLine(f.Source, 7), oneLine(f.Text, 1200))
	}
}

// sure puts a score into words.
func sure(score float64) string {
	switch {
	case score >= 0.85:
		return "almost certain"
	case score >= 0.5:
		return "likely"
	}
	return "possible"
}
