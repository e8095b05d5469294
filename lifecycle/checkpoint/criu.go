package checkpoint

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/lifecycle/host"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Criu remembers what criu said of itself and of this kernel. It is asked when the
// answer is first needed, again when the program was replaced, and after a refusal
// again after a while. The zero value is ready, and safe for concurrent use.
type Criu struct {
	mu    sync.Mutex // guards the rest; held while criu is asked, at most askBound
	asked bool
	path  string
	stamp host.Stamp
	at    time.Time
	told  answer
}

const (
	// askBound is how long criu may take to answer.
	askBound = 10 * time.Second
	// askAgain is the pause before a criu that does not work is asked again.
	askAgain = time.Minute
)

// answer is what became of a question; err nil means that criu works here.
type answer struct {
	version string
	err     error
}

// Usable returns the path of a criu that works on this host, else pod.ErrUnsupported
// with the reason in one line. configured is an
// absolute path; empty means the criu in PATH.
func (p *Criu) Usable(ctx context.Context, configured string) (path string, err error) {
	if path, err = find(configured); err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	stamp := host.StampOf(path)
	if !p.asked || p.path != path || p.stamp != stamp || p.told.err != nil && time.Since(p.at) > askAgain {
		told := ask(ctx, path)
		if ctx.Err() != nil { // no word of criu's
			return "", context.Cause(ctx)
		}
		p.asked, p.path, p.stamp, p.at, p.told = true, path, stamp, time.Now(), told
	}
	return path, p.told.err
}

// find is the program of the configuration, or that in PATH.
func find(configured string) (string, error) {
	path, err := exec.LookPath(cmp.Or(configured, "criu"))
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("%w: checkpoints need criu (runtime.criu_path): %w", pod.ErrUnsupported, err)
	}
	return path, nil
}

// ask has criu look at the kernel (criu(8), check). Its complaints name what is missing.
func ask(ctx context.Context, path string) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return answer{err: fmt.Errorf("%w: checkpoints need criu: run %s: %w", pod.ErrUnsupported, path, err)}
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

// Feature is criu's line of `vitrine check`.
func Feature(configured string) host.Feature {
	f := host.Feature{Name: "criu"}
	path, err := find(configured)
	if err == nil {
		told := ask(context.Background(), path)
		err = told.err
		f.Consequence = "containers and pods can be checkpointed and restored, with criu " + told.version
	}
	if f.OK = err == nil; !f.OK {
		reason := strings.TrimPrefix(err.Error(), pod.ErrUnsupported.Error()+": ")
		f.Consequence = "CheckpointContainer, CheckpointPod and RestorePod are refused: " + reason
	}
	return f
}
