package libct

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/vitrine-runtime/vitrine/launch"
)

// checkpoint has the runtime have criu write the processes down.
func (x *external) checkpoint() error {
	if err := x.findCriu(); err != nil {
		return err
	}
	err := x.command("checkpoint", append(x.criuFlags(), "--leave-running")...)
	return x.orCriu("dump.log", err)
}

// restore makes the container of the images and leaves its processes stopped. The
// runtime reads the name of criu's options from the specification.
func (x *external) restore() (int, error) {
	if err := x.findCriu(); err != nil {
		return 0, err
	}
	spec, err := x.spec()
	if err != nil {
		return 0, invalid("libct.spec", err)
	}
	options, err := x.criuConfigFile()
	if err != nil {
		return 0, err
	}
	if spec.Annotations == nil {
		spec.Annotations = map[string]string{}
	}
	spec.Annotations[criuAnnotation] = options
	raw, err := json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(x.request.Bundle, "config.json"), raw, 0o600)
	}
	if err != nil {
		return 0, fmt.Errorf("write specification: %w", err)
	}
	x.line.end("libct.spec")
	args := append(x.criuFlags(), "--detach", "--bundle", x.request.Bundle)
	pid, err := x.withProcess(spec.Process, "restore", args...)
	if err == nil {
		err = os.WriteFile(options, nil, 0o600)
	}
	pid, err = x.orNothing(pid, err)
	return pid, x.orCriu("restore.log", err)
}

// orCriu prefers criu's own words to what the runtime says of them.
func (x *external) orCriu(log string, err error) error {
	failed, ok := err.(*launch.Error)
	if !ok || failed.Kind != launch.KindInternal {
		return err
	}
	if told := criuError(filepath.Join(x.request.Criu.Work, log)); told != "" {
		failed.Message = filepath.Base(x.request.Runtime.Path) + ": criu: " + told
	}
	return failed
}

// resume lets the processes of a restored container go.
func (x *external) resume() (int, error) {
	args := append(slices.Clone(x.request.Runtime.Args), "--root", x.request.Root)
	if x.request.Runtime.SystemdCgroup {
		args = append(args, "--systemd-cgroup")
	}
	ask := func(into any, sub ...string) error {
		out, err := exec.Command(x.request.Runtime.Path, append(slices.Clone(args), sub...)...).Output()
		if err != nil {
			return fmt.Errorf("%s %s: %w", filepath.Base(x.request.Runtime.Path), sub[0], err)
		}
		if err := json.NewDecoder(bytes.NewReader(out)).Decode(into); err != nil {
			return fmt.Errorf("%s %s: %w", filepath.Base(x.request.Runtime.Path), sub[0], err)
		}
		return nil
	}
	var pids []int
	if err := ask(&pids, "ps", "--format", "json", x.request.ID); err != nil {
		return 0, err
	}
	var state struct{ PID int }
	if err := ask(&state, "state", x.request.ID); err != nil {
		return 0, err
	}
	err := letGo(pids)
	x.line.end("runtime.resume")
	return state.PID, err
}
