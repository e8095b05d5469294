package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/network"
)

// feature is one line of `vitrine check`.
type feature struct {
	Feature     string `json:"feature"`
	OK          bool   `json:"ok"`
	Consequence string `json:"consequence"`
	Room        string `json:"room"`
}

// hostFeatures asks every room what it can and cannot do on this host; programs are the
// eBPF room's answer.
func hostFeatures(programs []ebpf.Feature) []feature {
	var all []feature
	for _, f := range lifecycle.Features() {
		all = append(all, feature{f.Name, f.OK, f.Consequence, "lifecycle"})
	}
	for _, f := range cgroup.Features() {
		all = append(all, feature{f.Name, f.OK, f.Consequence, "cgroup"})
	}
	for _, f := range programs {
		all = append(all, feature{f.Name, f.OK, f.Consequence, "ebpf"})
	}
	for _, f := range network.Features() {
		all = append(all, feature{f.Name, f.OK, f.Consequence, "network"})
	}
	return all
}

func printFeatures(w io.Writer, features []feature) error {
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
