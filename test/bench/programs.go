package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// unobserved is the target's name of the same work while no program is attached: the ratio
// to it is what the programs cost that always are.
const unobserved = "unobserved"

// beginAndEnd is what those programs see of processes, and next to nothing else.
const beginAndEnd = "i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done"

// measurePrograms measures what it costs processes that only begin and end that the programs
// for OOM kills, execs, exits, signals and denials are attached: in a container, which they
// observe, and outside of all containers. The daemon is started with and without them in
// turns, in an order that changes, and the container is made anew, because one from before
// would not be observed. It is CPU time, which a busy machine disturbs least; the
// difference is small nonetheless, so one turn says nothing. Peers have no such programs.
func measurePrograms(ctx context.Context, o options, t *target, r *report) error {
	if t.observe == nil {
		return nil
	}
	const turns = 4
	for turn := range turns {
		order := []bool{false, true}
		if turn%2 == 1 {
			slices.Reverse(order)
		}
		for _, on := range order {
			who := unobserved
			if on {
				who = t.name
			}
			if err := t.observe(ctx, on); err != nil {
				return err
			}
			if err := withPod(ctx, t, func(pod *runtime.PodSandboxConfig, sandbox string) error {
				id, err := t.cri.Run(ctx, sandbox, pod, harness.Container(pod, "inside", t.image, "/bin/payload", "wait"))
				if err != nil {
					return err
				}
				return errors.Join(beginsInside(ctx, t, r, who, id), beginsOutside(ctx, r, who))
			}); err != nil {
				return err
			}
		}
	}
	return t.observe(ctx, true)
}

func beginsInside(ctx context.Context, t *target, r *report, who, id string) error {
	used, err := cpuDuring(ctx, t, id, func() error {
		answer, err := t.cri.Exec(ctx, id, 120, "/bin/sh", "-c", beginAndEnd)
		if err == nil && answer.ExitCode != 0 {
			err = fmt.Errorf("500 processes: %d, %s", answer.ExitCode, answer.Stderr)
		}
		return err
	})
	if err == nil {
		r.add(who, "500 processes, observed", milliseconds, used.Seconds()*1000)
	}
	return err
}

// beginsOutside runs them as an ordinary user, whose every mapping asks for a capability.
func beginsOutside(ctx context.Context, r *report, who string) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", beginAndEnd)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("500 processes: %w", err)
	}
	used := cmd.ProcessState.SystemTime() + cmd.ProcessState.UserTime()
	r.add(who, "500 processes beside", milliseconds, used.Seconds()*1000)
	return nil
}

// observer starts a daemon of ours anew with its programs or without, and waits until they
// are attached or gone.
func observer(d *harness.Daemon) func(context.Context, bool) error {
	config := filepath.Join(d.Dir, "etc/vitrine.toml.d/90-unobserved.toml")
	return func(ctx context.Context, on bool) error {
		text := "[ebpf]\ndisabled = true\n"
		if on {
			text = ""
		}
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			return err
		}
		if err := errors.Join(d.Stop(), d.Start(ctx)); err != nil {
			return err
		}
		attached, err := d.Watches()
		if err == nil && attached != on {
			err = fmt.Errorf("the programs are attached: %v, want %v", attached, on)
		}
		return err
	}
}
