package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// setting is one line of GET /v1/config.
type setting struct {
	Key    string          `json:"key"`
	Value  json.RawMessage `json:"value"`
	Source string          `json:"source"`
}

// text is the value as a person would write it.
func (s setting) text() string {
	var text string
	if json.Unmarshal(s.Value, &text) == nil && text != "" {
		return text
	}
	if text == "" && (string(s.Value) == "null" || string(s.Value) == `""`) {
		return "-"
	}
	return string(s.Value)
}

func configCommand(o *options) *cobra.Command {
	command := &cobra.Command{
		Use:   "config [-- VITRINED-FLAGS]",
		Short: "Print the settings in force and where each comes from",
		Long: `Print the running daemon's settings and where each comes from. When no daemon runs,
"vitrined config" says what it would run with; flags behind -- are passed to it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var settings []setting
			if err := o.ask(cmd, "config", args, &settings); err != nil || settings == nil {
				return err
			}
			if o.json() {
				return printJSON(cmd.OutOrStdout(), settings)
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			for _, s := range settings {
				fmt.Fprintf(table, "%s\t%s\t%s\n", oneLine(s.Key, 80), oneLine(s.text(), 200), oneLine(s.Source, 200))
			}
			return table.Flush()
		},
	}
	command.AddCommand(importCommand())
	return command
}

func checkCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "check [-- VITRINED-FLAGS]",
		Short: "Say what this host can and cannot do, one line per kernel feature",
		RunE: func(cmd *cobra.Command, args []string) error {
			var features []api.Feature
			if err := o.ask(cmd, "check", args, &features); err != nil || features == nil {
				return err
			}
			if o.json() {
				return printJSON(cmd.OutOrStdout(), features)
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			for _, f := range features {
				mark := "no"
				if f.OK {
					mark = "yes"
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", mark, oneLine(f.Room, 20), oneLine(f.Feature, 80), oneLine(f.Consequence, 200))
			}
			return table.Flush()
		},
	}
}

// ask decodes the daemon's answer into value. Without a daemon the daemon's binary
// is run with the same sub-command; it prints by itself and value stays nil.
func (o *options) ask(cmd *cobra.Command, what string, args []string, value any) error {
	if len(args) == 0 {
		err := o.get(cmd.Context(), "/v1/"+what, value)
		if !errors.Is(err, errNoDaemon) {
			return err
		}
	}
	if o.json() {
		return fmt.Errorf("%w on %s, and without it there is text only", errNoDaemon, o.socket())
	}
	arguments := []string{what}
	if cmd.Flags().Changed("state") {
		arguments = append(arguments, "--state", o.state)
	}
	return o.daemonBinary(cmd, append(arguments, args...))
}

// daemonBinary runs vitrined, the one beside this program or the one of PATH.
func (o *options) daemonBinary(cmd *cobra.Command, args []string) error {
	path, err := findDaemon()
	if err != nil {
		return fmt.Errorf("%w on %s, and %w", errNoDaemon, o.socket(), err)
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	daemon := exec.CommandContext(ctx, path, args...)
	daemon.Stdout, daemon.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := daemon.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", path, args[0], err)
	}
	return nil
}

func findDaemon() (string, error) {
	if self, err := os.Executable(); err == nil {
		if path := filepath.Join(filepath.Dir(self), "vitrined"); isFile(path) {
			return path, nil
		}
	}
	path, err := exec.LookPath("vitrined")
	if err != nil {
		return "", errors.New("there is no vitrined beside this program or in PATH")
	}
	return path, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
