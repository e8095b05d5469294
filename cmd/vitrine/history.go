package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/history"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

func historyCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "history [POD|CONTAINER|IMAGE]",
		Short: "Print what happened on the node, or to one pod, also when it is gone",
		Long: `Print what the node remembers, the oldest first: events, calls, ends with their last
words, and the daemon's own beginnings and ends. How much is kept is set by
telemetry.history_bytes and telemetry.history_hours.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: o.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := o.open(cmd.Context(), "/v1/history?"+url.Values{"subject": args}.Encode())
			if err != nil {
				return err
			}
			defer body.Close()
			return o.printHistory(body, cmd.OutOrStdout())
		},
	}
}

func (o *options) printHistory(body io.Reader, w io.Writer) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 4096), maxEvent)
	for lines.Scan() {
		if o.json() {
			fmt.Fprintf(w, "%s\n", lines.Bytes())
			continue
		}
		var e history.Entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		if text := entryText(e); text != "" {
			fmt.Fprintf(w, "%s  %s\n", e.Time.Local().Format("01-02 15:04:05.000"), text)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("an entry is longer than %d bytes", maxEvent)
	} else if err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// entryText is one line; empty for what only tools read.
func entryText(e history.Entry) string {
	subject := e.Namespace + "/" + e.Pod
	if e.Container != "" {
		subject += "/" + e.Container
	}
	if e.Pod == "" {
		subject = e.Image
	}
	subject = oneLine(subject, 200)
	switch {
	case e.Daemon != nil && e.Daemon.Ended:
		return fmt.Sprintf("daemon     ended, pid %d", e.Daemon.PID)
	case e.Daemon != nil:
		return fmt.Sprintf("daemon     began, pid %d, version %s", e.Daemon.PID, oneLine(e.Daemon.Version, 60))
	case e.Event != nil:
		text := fmt.Sprintf("event      %s  %s", oneLine(string(e.Event.Kind), 40), subject)
		if x := e.Event.Exit; x != nil && strings.HasSuffix(string(e.Event.Kind), ".exited") {
			text += fmt.Sprintf("  code %d %s %s", x.Code, oneLine(x.Reason, 40), oneLine(x.Message, 300))
		}
		return strings.TrimRight(text, " ")
	case e.Kind == history.KindTrace && len(e.Trace.Spans) > 0:
		root := e.Trace.Spans[0]
		return fmt.Sprintf("call       %s  %s  %s  %s  trace %s", waterfall.ShortName(root.Name), subject,
			waterfall.Duration(root.Duration()), oneLine(root.Text("rpc.response.status_code"), 30), oneLine(e.Trace.ID, 32))
	case e.Figures != nil && e.Figures.Output != "":
		return fmt.Sprintf("last words %s  %s", subject, oneLine(e.Figures.Output, 300))
	}
	return ""
}
