package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/telemetry/history"
)

// maxEvent bounds one event, in bytes.
const maxEvent = 1 << 20

func eventsCommand(o *options) *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use:   "events",
		Short: "Print what happened to pods and containers; with -f, what happens",
		Long: `Print the events that the node remembers, the oldest first. With -f print events as
they happen, until interrupted.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !follow {
				return o.pastEvents(cmd.Context(), cmd.OutOrStdout())
			}
			body, err := o.open(cmd.Context(), "/v1/events")
			if err != nil {
				return err
			}
			defer body.Close()
			err = o.printEvents(body, cmd.OutOrStdout())
			if cmd.Context().Err() != nil || errors.Is(err, context.Canceled) {
				return nil // the person has seen enough
			}
			if err != nil {
				return fmt.Errorf("read events: %w", err)
			}
			return errors.New("the daemon ended the stream")
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "print events as they happen, until interrupted")
	return c
}

// pastEvents prints the events of the history as those of the stream are printed.
func (o *options) pastEvents(ctx context.Context, w io.Writer) error {
	body, err := o.open(ctx, "/v1/history")
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 4096), maxEvent)
	for lines.Scan() {
		var entry history.Entry
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		if entry.Event == nil {
			continue
		}
		e := api.Event{Time: entry.Time, Kind: string(entry.Event.Kind), Pod: entry.Namespace + "/" + entry.Pod, Sandbox: pod.ID(entry.Sandbox),
			Container: entry.Container, ID: pod.ID(entry.ContainerID), Exit: entry.Event.Exit, Stall: entry.Event.Stall}
		if !o.json() {
			fmt.Fprintln(w, eventText(e))
		} else if err := json.NewEncoder(w).Encode(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// printEvents passes the stream on until it ends.
func (o *options) printEvents(body io.Reader, w io.Writer) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 4096), maxEvent)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		if o.json() {
			fmt.Fprintf(w, "%s\n", lines.Bytes())
			continue
		}
		var e api.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return err
		}
		fmt.Fprintln(w, eventText(e))
	}
	return lines.Err()
}

func eventText(e api.Event) string {
	id, name := string(e.Sandbox), e.Pod
	if e.ID != "" {
		id, name = string(e.ID), e.Pod+"/"+e.Container
	}
	line := fmt.Sprintf("%s  %-17s  %.13s  %s", e.Time.Local().Format("15:04:05.000"), oneLine(e.Kind, 40), oneLine(id, 64), oneLine(name, 200))
	if x := e.Exit; x != nil && strings.HasSuffix(e.Kind, ".exited") {
		line += fmt.Sprintf("  code %d %s", x.Code, oneLine(x.Reason, 40))
		if x.Message != "" {
			line += ": " + oneLine(x.Message, 300)
		}
	}
	if e.Kill != nil {
		line += "  " + oneLine(e.Kill.Message, 300)
	}
	if e.Stall != nil {
		line += "  the file system of " + oneLine(e.Stall.Path, 300) + " does not answer"
	}
	return line
}
