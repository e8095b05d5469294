// Command vitrined is the node's container runtime daemon. It is the only place
// that knows all rooms: it builds them in order, hands each what it needs, and
// stops them in reverse. It holds no logic of its own.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/ebpf"

	"github.com/vitrine-runtime/vitrine/image"
)

// version and revision are stamped by the Makefile.
var (
	version  = "0.1.0-dev"
	revision = ""
)

func main() {
	if image.Reexec() {
		return
	}
	if err := command().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "vitrined:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var flags flagSet
	root := &cobra.Command{
		Use:           "vitrined",
		Short:         "Kubernetes container runtime that explains itself",
		Long:          "vitrined serves the Kubernetes container runtime interface (CRI v1) on a unix socket.",
		Args:          cobra.NoArgs,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := loadConfig(flags)
			if err != nil {
				return err
			}
			return run(cmd.Context(), config, flags)
		},
	}
	flags.register(root.PersistentFlags())
	var images bool
	wiping := &cobra.Command{
		Use:   "wipe",
		Short: "Remove every pod and the default network of a daemon that does not run",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := loadConfig(flags)
			if err != nil {
				return err
			}
			return wipe(cmd.Context(), config, flags, images, cmd.OutOrStdout())
		},
	}
	wiping.Flags().BoolVar(&images, "images", false, "remove the images, too")
	root.AddCommand(wiping, &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration and where each value comes from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := loadConfig(flags)
			if err != nil {
				return err
			}
			return printSettings(cmd.OutOrStdout(), config.settings())
		},
	}, &cobra.Command{
		Use:   "check",
		Short: "Say what this host can and cannot do, one line per kernel feature",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := loadConfig(flags)
			if err != nil {
				return err
			}
			return printFeatures(cmd.OutOrStdout(), hostFeatures(config.Runtime, ebpf.Features()))
		},
	})
	return root
}
