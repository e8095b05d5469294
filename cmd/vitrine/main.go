// Command vitrine is a person's way to ask the node's container runtime what it does
// and why. It asks the daemon over its admin socket and draws the answers; it does
// no work of its own on containers or images.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// version is stamped by the Makefile.
var version = "0.1.0-dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: arguments in, exit code out.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(stderr, "vitrine:", err)
		return 1
	}
	return 0
}

// options are the flags that all commands share.
type options struct {
	state, api, output string
}

// socket is where the daemon answers.
func (o *options) socket() string {
	if o.api != "" {
		return o.api
	}
	return filepath.Join(o.state, "api.sock")
}

// json is true for -o json.
func (o *options) json() bool { return o.output == "json" }

func command() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:           "vitrine",
		Short:         "Ask the node's container runtime what it does and why",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if o.output != "text" && o.output != "json" {
				return fmt.Errorf("output %q is neither text nor json", o.output)
			}
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&o.state, "state", "/run/vitrine", "state directory of the daemon")
	flags.StringVar(&o.api, "api", "", "admin socket of the daemon (default STATE/api.sock)")
	flags.StringVarP(&o.output, "output", "o", "text", "text or json")
	root.AddCommand(whyCommand(o), traceCommand(o), historyCommand(o), logsCommand(o), topCommand(o), pullsCommand(o), oomCommand(o), denialsCommand(o), syscallsCommand(o), flightCommand(o), seccompCommand(o), statusCommand(o), configCommand(o),
		checkCommand(o), eventsCommand(o), monitorCommand(o), wipeCommand(o))
	return root
}
