// Command bench measures what a node's user waits for and pays: pods up and down,
// exec, log throughput, density, pull. It measures this tree's daemon and, in the
// same run and in turns with it, the runtimes behind the sockets given with --peer,
// and the kernel alone. It prints medians and ratios, and JSON with --json.
//
// Ratios between runtimes of one run mean something; absolute figures of a small
// virtual machine do not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

type options struct {
	peers   []string
	only    []string
	json    string
	rounds  int
	pods    int
	execs   int
	logMiB  int
	density int
	scale   int

	// coldMemory leaves the memory that logs will take as it is.
	coldMemory bool

	pullMiB   int
	pullKinds string
}

func main() {
	var o options
	flag.Func("peer", "CRI `socket` of a runtime to compare with, \"containerd\" to start the installed one, or \"conmon\" for monitors alone; may be repeated", func(s string) error { o.peers = append(o.peers, s); return nil })
	telemetry := flag.Bool("telemetry", false, "compare pod starts with telemetry off, on, and with a collector that is absent, ill or silent, or those of them that --only names; nothing else")
	only := flag.String("only", "", "comma-separated parts: floor,pods,exec,logs,density,pull,steps; scale, watch and programs only when named")
	flag.StringVar(&o.json, "json", "", "`file` for the figures as JSON")
	flag.IntVar(&o.rounds, "rounds", 3, "turns of each part; ratios are taken per turn")
	flag.IntVar(&o.pods, "pods", 30, "pod cycles per turn and cell")
	flag.IntVar(&o.execs, "execs", 40, "execs per turn and cell")
	flag.IntVar(&o.logMiB, "log-mib", 256, "MiB of 100-byte lines, of all containers of a turn together")
	flag.BoolVar(&o.coldMemory, "cold-memory", false, "do not use the memory that logs will take before the time is taken: on a virtual machine its host is measured then")
	flag.IntVar(&o.density, "density", 30, "containers for the density part")
	flag.IntVar(&o.pullMiB, "pull-mib", 0, "MiB of the images for the part pull, made of this machine's own programs and documents; 0: 157 MB of words in files of one size")
	flag.StringVar(&o.pullKinds, "pull-kinds", "", "comma-separated images for the part pull, of gzip-8, zstd-8, gzip-1 and zstd-1 (compression, layers); empty: all")
	flag.IntVar(&o.scale, "scale", 250, "pods for the part scale")
	flag.Parse()
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	run := bench
	if *telemetry {
		run = compareTelemetry
	}
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A part measures one thing on one target and adds its samples to the report.
type part struct {
	name string
	run  func(context.Context, options, *target, *report) error
}

var parts = []part{
	{"pods", measurePods},
	{"exec", measureExec},
	{"logs", measureLogs},
	{"density", measureDensity},
	{"pull", measurePull},
	{"steps", measureSteps},
	{"scale", measureScale},
	{"watch", measureWatch},
	{"programs", measurePrograms},
}

func bench(ctx context.Context, o options) (err error) {
	hub, err := harness.StartHub(ctx)
	if err != nil {
		return err
	}
	defer hub.Close()
	targets, closeAll, err := openTargets(ctx, o, hub)
	defer func() { err = errors.Join(err, closeAll()) }()
	if err != nil {
		return err
	}
	var conmon *conmonPeer
	if slices.Contains(o.peers, conmonName) {
		if conmon, err = openConmon(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conmon.close()) }()
	}
	r := newReport()
	want := func(name string) bool { return len(o.only) == 0 || slices.Contains(o.only, name) }
	if want("floor") {
		if err := measureFloor(r); err != nil {
			return fmt.Errorf("floor: %w", err)
		}
	}
	for _, p := range parts {
		if !want(p.name) || slices.Contains([]string{"scale", "watch", "programs"}, p.name) && len(o.only) == 0 {
			continue
		}
		for round := range o.rounds {
			r.round = round
			for _, t := range targets { // in turns, so that a slow minute hits all
				from := time.Now()
				if err := p.run(ctx, o, t, r); err != nil {
					return fmt.Errorf("%s on %s: %w", p.name, t.name, err)
				}
				fmt.Fprintf(os.Stderr, "%s, round %d of %d, %s: %v\n", p.name, round+1, o.rounds, t.name, time.Since(from).Round(time.Millisecond))
			}
			if run := conmonParts[p.name]; run != nil && conmon != nil {
				if err := run(ctx, o, conmon, r); err != nil {
					return fmt.Errorf("%s on %s: %w", p.name, conmonName, err)
				}
			}
			if p.name == "logs" {
				if err := floorLogs(ctx, o, r); err != nil {
					return fmt.Errorf("floor of logs: %w", err)
				}
			}
		}
	}
	r.print(os.Stdout, targets)
	for _, s := range r.steps {
		if err := s.print(os.Stdout); err != nil {
			return err
		}
	}
	if o.json != "" {
		return r.writeJSON(o.json)
	}
	return nil
}

// openTargets starts this tree's daemon and connects to the peers. The function it
// returns ends and removes all that was made, also after an error.
func openTargets(ctx context.Context, o options, hub *harness.Hub) (targets []*target, closeAll func() error, err error) {
	closeAll = func() error {
		var errs []error
		for _, t := range targets {
			errs = append(errs, t.close())
		}
		return errors.Join(errs...)
	}
	bin, err := harness.Bin()
	if err != nil {
		return nil, closeAll, err
	}
	watched, err := newPlugins(filepath.Join(bin, "cni"))
	if err != nil {
		return nil, closeAll, err
	}
	d, err := harness.NewDaemon(harness.Options{LogLevel: "warn", RegistriesConf: fixture.RegistriesConf(hub.Addr), CNIBin: []string{watched.dir}})
	if err != nil {
		return nil, closeAll, errors.Join(err, watched.close())
	}
	closeOwn := func() error { return errors.Join(d.Close(), watched.close()) }
	targets = append(targets, &target{name: "vitrine", Instance: d.Instance, plugins: watched, trace: d.Trace, restart: d.Restart, observe: observer(d), close: closeOwn})
	if err := onTmpfs(d.State()); err != nil {
		return targets, closeAll, err
	}
	if err := d.Start(ctx); err != nil {
		return targets, closeAll, err
	}
	if targets[0].cri, err = d.CRI(); err != nil {
		return targets, closeAll, err
	}
	for _, socket := range o.peers {
		if socket == conmonName {
			continue
		}
		open := func() (*target, error) { return openPeer(ctx, socket) }
		if socket == "containerd" {
			open = func() (*target, error) { return startContainerd(ctx, hub) }
		}
		t, err := open()
		if err != nil {
			return targets, closeAll, err
		}
		targets = append(targets, t)
	}
	for _, t := range targets {
		if err := t.prepare(ctx, hub); err != nil {
			return targets, closeAll, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return targets, closeAll, nil
}
