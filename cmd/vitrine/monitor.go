package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

func monitorCommand(o *options) *cobra.Command {
	c := &cobra.Command{Use: "monitor", Short: "Look after the processes that stand beside containers"}
	c.AddCommand(monitorUpgradeCommand(o))
	return c
}

func monitorUpgradeCommand(o *options) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "upgrade POD|CONTAINER | --all",
		Short: "Replace the program of running monitors in place",
		Long: `Replace the program of running monitors by the one on disk, in place: containers,
their logs, attached clients and exec sessions go on. A monitor whose new program
does not pass its trial keeps the old one.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			switch {
			case all == (len(args) == 1):
				return errors.New("say which monitors: the ID of a pod or of a container, or --all")
			case len(args) == 1:
				query.Set("id", args[0])
			}
			body, err := o.send(cmd.Context(), http.MethodPost, "/v1/monitors/upgrade?"+query.Encode())
			if err != nil {
				return err
			}
			defer body.Close()
			return o.printUpgrades(body, cmd.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every monitor of the daemon")
	return c
}

// printUpgrades prints a line per monitor as it is done; one that failed makes the
// command fail at the end.
func (o *options) printUpgrades(body io.Reader, w io.Writer) error {
	decoder := json.NewDecoder(io.LimitReader(body, maxAnswer))
	upgraded, failed := 0, 0
	for {
		var u api.MonitorUpgrade
		if err := decoder.Decode(&u); err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		if u.Error != "" {
			failed++
		} else {
			upgraded++
		}
		if o.json() {
			if err := json.NewEncoder(w).Encode(u); err != nil {
				return err
			}
			continue
		}
		fate := "now runs " + oneLine(u.Build, 80)
		if u.Error != "" {
			fate = "keeps its program: " + oneLine(u.Error, 400)
		}
		fmt.Fprintf(w, "%.13s  %s  %s\n", u.ID, oneLine(u.Name, 80), fate)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d monitors keep their program", failed, failed+upgraded)
	}
	if !o.json() {
		fmt.Fprintf(w, "%d monitors upgraded\n", upgraded)
	}
	return nil
}
