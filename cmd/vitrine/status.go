package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

func statusCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the daemon, what it runs, and what is going on",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.json() {
				return o.copy(cmd.Context(), "/v1/status", cmd.OutOrStdout())
			}
			var s api.Status
			if err := o.get(cmd.Context(), "/v1/status", &s); err != nil {
				return err
			}
			return printStatus(cmd.OutOrStdout(), s, time.Now())
		},
	}
}

// printStatus shows operations last, the oldest first: what hangs is the top one.
func printStatus(w io.Writer, s api.Status, now time.Time) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(table, "vitrined\t%s, pid %d, up %s\n", oneLine(s.Version, 80), s.PID, waterfall.Duration(now.Sub(s.StartedAt)))
	fmt.Fprintf(table, "sandboxes\t%s\n", counts(s.Sandboxes))
	fmt.Fprintf(table, "containers\t%s\n", counts(s.Containers))
	fmt.Fprintf(table, "images\t%d\n", s.Images)
	fmt.Fprintf(table, "network\t%s\n", oneLine(s.Network, 200))
	if len(s.Operations) == 0 {
		fmt.Fprintln(table, "operations\tnone going on")
		return table.Flush()
	}
	if err := table.Flush(); err != nil {
		return err
	}
	slices.SortFunc(s.Operations, func(a, b api.Operation) int {
		return cmp.Or(a.Began.Compare(b.Began), a.Since.Compare(b.Since))
	})
	fmt.Fprintln(table, "\nOPERATION\tSUBJECT\tGOING ON FOR\tSTEP\tIN IT FOR\tWAITS FOR")
	for _, op := range s.Operations {
		began := op.Began
		if began.IsZero() {
			began = op.Since
		}
		waits := ""
		if b := op.Blocked; b != nil {
			waits = fmt.Sprintf("%s, %s", oneLine(b.On, 120), waterfall.Duration(now.Sub(b.Since)))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", oneLine(op.Name, 40), oneLine(op.Subject, 80),
			waterfall.Duration(now.Sub(began)), oneLine(op.Phase, 60), waterfall.Duration(now.Sub(op.Since)), waits)
	}
	return table.Flush()
}

// counts lists states with their numbers, in alphabetical order.
func counts(m map[string]int) string {
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%d %s", m[state], state))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// oneLine makes text from anywhere fit for a cell of a table on a terminal.
func oneLine(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return -1
	}, text)
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit-1]) + "…"
	}
	return text
}
