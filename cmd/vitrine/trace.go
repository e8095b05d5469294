package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// traceFlags are those of `vitrine trace`.
type traceFlags struct {
	*options
	limit, width        int
	reads, events, list bool
	life                bool
	color               string
}

func traceCommand(o *options) *cobra.Command {
	f := &traceFlags{options: o}
	c := &cobra.Command{
		Use:   "trace [POD|CONTAINER|TRACEID]",
		Short: "Draw where the time of a pod's calls went",
		Long: `Draw the traces of a pod, a container, or of one trace id as waterfalls on one time axis:
the call, its steps, and what the monitor and the launcher did for it; below them the
life of each container, with what befell it: OOM kills, denials, stalls, lost log, the
request that it end. Without an argument, list the last traces.

A pod is namespace/name, a name or a uid; a container is namespace/pod/name or an id.
Of ids and uids the first six digits are enough.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: o.completePods,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"auto", "always", "never"}, f.color) {
				return fmt.Errorf("color %q is none of auto, always, never", f.color)
			}
			if len(args) == 0 || args[0] == "" {
				return f.listTraces(cmd.Context(), "", cmd.OutOrStdout())
			}
			if f.list {
				return f.listTraces(cmd.Context(), args[0], cmd.OutOrStdout())
			}
			return f.draw(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
	c.Flags().IntVarP(&f.limit, "limit", "n", 20, "at most this many traces, the latest")
	c.Flags().IntVar(&f.width, "width", 0, "columns of the drawing (default: the terminal's, else 120)")
	c.Flags().BoolVar(&f.reads, "reads", false, "also calls that only look, such as ContainerStatus")
	c.Flags().BoolVar(&f.events, "events", false, "show events within steps")
	c.Flags().BoolVar(&f.life, "life", true, "also the containers' lives, from the start of their program to its end")
	c.Flags().BoolVar(&f.list, "list", false, "one line per trace instead of drawings")
	c.Flags().StringVar(&f.color, "color", "auto", "auto, always or never")
	return c
}

// find asks for the traces that match, the latest first.
func (f *traceFlags) find(ctx context.Context, query string) ([]waterfall.Summary, error) {
	values := url.Values{"limit": {fmt.Sprint(f.limit)}}
	if query != "" {
		values.Set("pod", query)
	}
	if f.reads {
		values.Set("reads", "1")
	}
	var answer struct {
		Traces []waterfall.Summary `json:"traces"`
	}
	if err := f.get(ctx, "/v1/traces?"+values.Encode(), &answer); err != nil {
		return nil, err
	}
	return answer.Traces, nil
}

// draw shows every trace of a query, or the one of a trace id.
func (f *traceFlags) draw(ctx context.Context, query string, w io.Writer) error {
	lives, err := f.lives(ctx, query)
	if err != nil {
		return err
	}
	ids := []string{query}
	if !isTraceID(query) {
		found, err := f.find(ctx, query)
		if err != nil {
			return err
		}
		if len(found) == 0 && len(lives) == 0 {
			return fmt.Errorf("the node remembers no trace of %q (vitrine trace lists those it has)", query)
		}
		ids = ids[:0]
		for _, s := range slices.Backward(found) { // the oldest first, as things happened
			ids = append(ids, s.ID)
		}
	}
	var traces []*waterfall.Trace
	for _, id := range ids {
		if len(lives) == 1 && lives[0].ID == id {
			continue
		}
		t := &waterfall.Trace{}
		if err := f.get(ctx, "/v1/traces/"+id, t); err != nil {
			if len(ids) > 1 && strings.HasPrefix(err.Error(), "no trace") { // it gave way to newer ones meanwhile
				continue
			}
			return err
		}
		traces = append(traces, t)
	}
	if f.json() {
		return printJSON(w, append(traces, lives...))
	}
	width, terminal := terminalWidth(w)
	if f.width > 0 {
		width = f.width
	}
	color := f.color == "always" || f.color == "auto" && terminal && os.Getenv("NO_COLOR") == ""
	o := waterfall.Options{Width: width, Color: color, Events: f.events}
	if len(traces) > 0 {
		if err := waterfall.Render(w, traces, o); err != nil {
			return err
		}
	}
	o.Events = true // what befell a container is what its life is drawn for
	for i, life := range lives {
		if i > 0 || len(traces) > 0 {
			fmt.Fprintln(w)
		}
		// Each on an axis of its own: a life may be months, a start milliseconds.
		if err := waterfall.Render(w, []*waterfall.Trace{life}, o); err != nil {
			return err
		}
	}
	return nil
}

// lives are those of the containers that a query means, none for one that names no pod.
func (f *traceFlags) lives(ctx context.Context, query string) ([]*waterfall.Trace, error) {
	if !f.life {
		return nil, nil
	}
	var lives []*waterfall.Trace
	err := f.get(ctx, "/v1/lives?"+url.Values{"subject": {query}}.Encode(), &lives)
	return lives, err
}

// isTraceID is true for 32 hexadecimal digits.
func isTraceID(text string) bool {
	return len(text) == 32 && strings.Trim(text, "0123456789abcdef") == ""
}

// listTraces prints a line per trace.
func (f *traceFlags) listTraces(ctx context.Context, query string, w io.Writer) error {
	found, err := f.find(ctx, query)
	if err != nil {
		return err
	}
	if f.json() {
		return printJSON(w, found)
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "STARTED\tTIME\tTRACE\tWHAT\tPOD\tRESULT")
	for _, s := range found {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n",
			time.Unix(0, s.Start).Format("2006-01-02 15:04:05.000"), waterfall.Duration(time.Duration(s.End-s.Start)),
			s.ID, oneLine(strings.Join(s.Roots, " "), 60), oneLine(subject(s), 60), oneLine(result(s), 120))
	}
	return table.Flush()
}

// subject is the pod, with the container where it is one.
func subject(s waterfall.Summary) string {
	text := strings.Join(s.Pods, " ")
	if len(s.Pods) == 1 && len(s.Containers) == 1 {
		text += "/" + s.Containers[0]
	}
	return text
}

func result(s waterfall.Summary) string {
	switch {
	case s.Error != "":
		return s.Error
	case s.Unfinished:
		return "going on"
	}
	return "ok"
}

// terminalWidth is the width of the terminal that w is, else 120.
func terminalWidth(w io.Writer) (columns int, terminal bool) {
	const standard = 120
	file, ok := w.(*os.File)
	if !ok {
		return standard, false
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return standard, err == nil
	}
	return int(size.Col), true
}
