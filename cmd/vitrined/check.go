package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/network"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// hostFeatures asks every room what it can and cannot do on this host; programs are the
// eBPF room's answer.
func hostFeatures(runtime lifecycle.Config, programs []ebpf.Feature) []api.Feature {
	var all []api.Feature
	for _, f := range lifecycle.Features(runtime) {
		all = append(all, api.Feature{Feature: f.Name, OK: f.OK, Consequence: f.Consequence, Room: "lifecycle"})
	}
	for _, f := range cgroup.Features() {
		all = append(all, api.Feature{Feature: f.Name, OK: f.OK, Consequence: f.Consequence, Room: "cgroup"})
	}
	for _, f := range programs {
		all = append(all, api.Feature{Feature: f.Name, OK: f.OK, Consequence: f.Consequence, Room: "ebpf"})
	}
	for _, f := range network.Features() {
		all = append(all, api.Feature{Feature: f.Name, OK: f.OK, Consequence: f.Consequence, Room: "network"})
	}
	return all
}

func printFeatures(w io.Writer, features []api.Feature) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, f := range features {
		mark := "no "
		if f.OK {
			mark = "yes"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", mark, f.Room, f.Feature, f.Consequence)
	}
	return table.Flush()
}
