package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle/host"
	"github.com/vitrine-runtime/vitrine/pod"
)

// criuProbe remembers what criu said of itself and of this kernel. It is asked when the
// answer is first needed, again when the program was replaced, and after a refusal
// again after a while.
type criuProbe struct {
	mu    sync.Mutex // guards the rest; held while criu is asked, at most probeBound
	asked bool
	path  string
	stamp host.Stamp
	at    time.Time
	told  criuAnswer
}

// criuAnswer is what became of a question; err nil means that criu works here.
type criuAnswer struct {
	version string
	err     error
}

// usable returns the path of a criu that works on this host, else pod.ErrUnsupported
// with the reason in one line.
func (p *criuProbe) usable(ctx context.Context, configured string) (path string, err error) {
	if path, err = findCriu(configured); err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	stamp := host.StampOf(path)
	if !p.asked || p.path != path || p.stamp != stamp || p.told.err != nil && time.Since(p.at) > probeAgain {
		told := askCriu(ctx, path)
		if ctx.Err() != nil { // no word of criu's
			return "", context.Cause(ctx)
		}
		p.asked, p.path, p.stamp, p.at, p.told = true, path, stamp, time.Now(), told
	}
	return path, p.told.err
}

// findCriu is the program of the configuration, or that in PATH.
func findCriu(configured string) (string, error) {
	path, err := exec.LookPath(cmp.Or(configured, "criu"))
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("%w: checkpoints need criu (runtime.criu_path): %w", pod.ErrUnsupported, err)
	}
	return path, nil
}

// askCriu has criu look at the kernel (criu(8), check). Its complaints name what is missing.
func askCriu(ctx context.Context, path string) (a criuAnswer) {
	ctx, cancel := context.WithTimeout(ctx, probeBound)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return criuAnswer{err: fmt.Errorf("%w: checkpoints need criu: run %s: %w", pod.ErrUnsupported, path, err)}
	}
	first, _, _ := strings.Cut(string(out), "\n")
	a.version = strings.TrimSpace(strings.TrimPrefix(first, "Version:"))
	out, err = exec.CommandContext(ctx, path, "check").CombinedOutput()
	if err == nil {
		return a
	}
	reason := err.Error()
	for line := range strings.Lines(string(out)) {
		if _, text, found := strings.Cut(line, "Error ("); found && !strings.Contains(text, "RLIMIT_NOFILE") {
			_, text, _ = strings.Cut(text, "): ")
			reason = strings.TrimSpace(text)
			break
		}
	}
	a.err = fmt.Errorf("%w: criu %s does not work on this kernel: %s", pod.ErrUnsupported, a.version, reason)
	return a
}

// criuFeature is criu's line of `vitrine check`.
func criuFeature(configured string) host.Feature {
	f := host.Feature{Name: "criu"}
	path, err := findCriu(configured)
	if err == nil {
		told := askCriu(context.Background(), path)
		err = told.err
		f.Consequence = "containers and pods can be checkpointed and restored, with criu " + told.version
	}
	if f.OK = err == nil; !f.OK {
		reason := strings.TrimPrefix(err.Error(), pod.ErrUnsupported.Error()+": ")
		f.Consequence = "CheckpointContainer, CheckpointPod and RestorePod are refused: " + reason
	}
	return f
}

// checkpointable refuses what criu cannot take up again, or this runtime cannot give it
// (docs/decisions/0095).
func (m *Manager) checkpointable(sb pod.Sandbox, c pod.Container) error {
	handler, err := m.config.handler(c.Handler)
	if err != nil {
		return err
	}
	why := ""
	switch {
	case handler.Shim != "":
		why = "containerd shims are not asked for checkpoints"
	case !m.features(c.Handler).Checkpoint:
		why = "its runtime does not say that it makes checkpoints"
	case userNamespace(sb) != nil:
		why = "its pod has a user namespace"
	case c.Config.GetTty():
		why = "it has a terminal, whose other end cannot be handed over"
	case c.Config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetPid() != runtime.NamespaceMode_CONTAINER:
		why = "it shares its process namespace, in which its process ids may be taken"
	}
	if why != "" {
		return fmt.Errorf("container %s cannot be in a checkpoint: %w: %s", c.Config.GetMetadata().GetName(), pod.ErrUnsupported, why)
	}
	return nil
}
