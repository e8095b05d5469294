package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// A task is a container at its shim, or a process in it.
type task struct {
	request launch.Request
	exec    string // the process's id; empty for the container itself
}

// dir is the shim's bundle, named as the shim's own delete expects: by the container.
func (t *task) dir() string { return filepath.Join(t.request.Bundle, "shim", t.request.ID) }

func (t *task) path(name string) string { return filepath.Join(t.dir(), name) }

// address is where the shim listens; os.ErrNotExist before it was started.
func (t *task) address() (string, error) {
	raw, err := os.ReadFile(t.path("address"))
	return strings.TrimSpace(string(raw)), err
}

// ids begin every request of the task API.
func (t *task) ids() message { return message(nil).text(1, t.request.ID).text(2, t.exec) }

func (t *task) call(method string, request message, bound time.Duration) ([]byte, error) {
	address, err := t.address()
	if err != nil {
		return nil, err
	}
	return call(address, method, request, bound)
}

// command is a run of the shim's binary for the container.
func (t *task) command(ctx context.Context, args ...string) *exec.Cmd {
	state := filepath.Join(filepath.Dir(t.request.Root), "shim.sock")
	all := append([]string{"-namespace", namespace, "-id", t.request.ID, "-address", state, "-publish-binary", "/bin/true"}, args...)
	cmd := exec.CommandContext(ctx, t.request.Runtime.Path, all...)
	cmd.Dir = t.dir()
	// Events would go to TTRPC_ADDRESS: nobody listens, Wait and the kernel tell what counts.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2", "GOGC=", "MAX_SHIM_VERSION=2", "TTRPC_ADDRESS="+state+".ttrpc", "GRPC_ADDRESS="+state, "NAMESPACE="+namespace)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	return cmd
}

// start makes the bundle and starts the shim.
func (t *task) start() error {
	if err := os.MkdirAll(t.dir(), 0o700); err != nil {
		return fmt.Errorf("make the shim's bundle: %w", err)
	}
	if err := os.Link(filepath.Join(t.request.Bundle, "config.json"), t.path("config.json")); err != nil {
		return fmt.Errorf("make the shim's bundle: %w", err)
	}
	// A shim opens this for writing. A fifo, which others put here, would need a reader
	// that never dies.
	if err := os.WriteFile(t.path("log"), nil, 0o600); err != nil {
		return fmt.Errorf("make the shim's bundle: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), callBound)
	defer cancel()
	var out, words bytes.Buffer
	cmd := t.command(ctx, "start")
	cmd.Stdout, cmd.Stderr = &out, &words
	cmd.WaitDelay = time.Second // the shim may have inherited the pipes
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		if text := strings.TrimSpace(words.String() + out.String()); text != "" {
			return errors.New(text)
		}
		return err
	}
	address, err := parseAddress(out.Bytes())
	if err != nil {
		return err
	}
	return writeFile(t.path("address"), address)
}

// parseAddress reads what a shim's start prints: an address, or since version 3 of
// the start-up protocol an object with it.
func parseAddress(out []byte) (string, error) {
	text := strings.TrimSpace(string(out))
	if strings.HasPrefix(text, "{") {
		var told struct{ Address, Protocol string }
		if err := json.Unmarshal(out, &told); err != nil {
			return "", fmt.Errorf("read the shim's address: %w", err)
		}
		if told.Protocol != "ttrpc" {
			return "", fmt.Errorf("the shim speaks %q, want ttrpc", told.Protocol)
		}
		text = told.Address
	}
	if !strings.HasPrefix(text, "unix://") && !strings.HasPrefix(text, "/") {
		return "", fmt.Errorf("the shim's start printed %q, want the address of a unix socket", text)
	}
	return text, nil
}

// options are what this kind of shim understands.
func (t *task) options() (url string, value []byte) {
	r := t.request.Runtime
	switch {
	case strings.HasPrefix(filepath.Base(r.Path), "containerd-shim-runc-"):
		// api/types/runc/options/oci.proto
		root := filepath.Join(t.request.Root, t.request.ID)
		return "containerd.runc.v1.Options", message(nil).text(6, r.Binary).text(7, root).bool(9, r.SystemdCgroup)
	case r.ConfigPath != "":
		// api/types/runtimeoptions/v1/api.proto
		return "runtimeoptions.v1.Options", message(nil).text(2, r.ConfigPath)
	}
	return "", nil
}

func (t *task) create(s *stdio) error {
	url, value := t.options()
	told, err := t.call("Create", message(nil).text(1, t.request.ID).text(2, t.dir()).bool(4, s.terminal).
		text(5, s.stdin).text(6, s.stdout).text(7, s.stderr).anything(10, url, value), 4*callBound)
	if err != nil {
		return err
	}
	pid, err := number(told, 1)
	if err != nil {
		return err
	}
	return writeFile(launch.TaskPID(t.request.Bundle, t.request.ID), strconv.FormatUint(pid, 10))
}

// startExec makes and starts the process of OpExec.
func (t *task) startExec(s *stdio) error {
	_, err := t.call("Exec", t.ids().bool(3, s.terminal).text(4, s.stdin).text(5, s.stdout).text(6, s.stderr).
		anything(7, "types.containerd.io/opencontainers/runtime-spec/1/Process", t.request.Process), callBound)
	if err != nil {
		return err
	}
	if _, err = t.call("Start", t.ids(), callBound); err != nil {
		_, _ = t.call("Delete", t.ids(), callBound)
	}
	return err
}

// kill sends a signal. That the process is gone already is success.
func (t *task) kill(sig uint64, all bool) error {
	_, err := t.call("Kill", t.ids().uint(3, sig).bool(4, all), callBound)
	return ignoreGone(err)
}

func ignoreGone(err error) error {
	var remote *remoteError
	if errors.As(err, &remote) && (remote.code == codeNotFound || gone(remote.message)) {
		return nil
	}
	return err
}

// wait returns the exit status when the process has ended.
func (t *task) wait() (int, error) {
	raw, err := t.call("Wait", t.ids(), forever)
	if err != nil {
		return 0, err
	}
	status, err := number(raw, 1)
	return int(status & 0xff), err
}

// ended is the status that an earlier keeper wrote down.
func (t *task) ended() (status int, ok bool) {
	raw, err := os.ReadFile(t.path("ended"))
	if err != nil {
		return 0, false
	}
	status, err = strconv.Atoi(string(raw))
	return status, err == nil
}

// writeFile puts a file into place in one piece.
func writeFile(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
