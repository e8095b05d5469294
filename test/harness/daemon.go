package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Daemon is an instance with its daemon process, which may die and come back. Its
// methods are not safe for concurrent use, except CRI and PID.
type Daemon struct {
	*Instance
	bin string
	// settled is the process that has loaded its programs; see settle.
	settled int

	mu   sync.Mutex // guards the fields below
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd was waited for
	cri  *CRI
}

// NewDaemon makes an instance and builds the binaries. Nothing runs yet.
func NewDaemon(o Options) (*Daemon, error) {
	bin, err := Bin()
	if err != nil {
		return nil, err
	}
	in, err := NewInstance(o)
	if err != nil {
		return nil, err
	}
	return &Daemon{Instance: in, bin: bin}, nil
}

// OpenDaemon is the daemon of an instance that was made before, perhaps in an earlier
// life of the machine. Nothing runs yet.
func OpenDaemon(dir string) (*Daemon, error) {
	bin, err := Bin()
	if err != nil {
		return nil, err
	}
	in, err := OpenInstance(dir)
	if err != nil {
		return nil, err
	}
	return &Daemon{Instance: in, bin: bin}, nil
}

// Args is the daemon's command line, without the program.
func (d *Daemon) Args() []string {
	level := d.Options.LogLevel
	if level == "" {
		level = "debug"
	}
	cniBin := ""
	for _, dir := range d.Options.CNIBin {
		cniBin += dir + ":"
	}
	args := []string{
		"--config", filepath.Join(d.Dir, "etc/vitrine.toml"),
		"--root", d.Data(), "--state", d.State(), "--socket", d.Socket(),
		"--registries-conf", filepath.Join(d.Dir, "etc/registries.conf"),
		"--signature-policy", filepath.Join(d.Dir, "etc/policy.json"),
		"--cni-conf-dir", d.NetDir(), "--cni-bin-dir", cniBin + filepath.Join(d.bin, "cni"),
		"--metrics-listen", d.MetricsListen(),
		"--log-level", level,
	}
	if d.Options.CgroupDriver != "" {
		args = append(args, "--cgroup-driver", d.Options.CgroupDriver)
	}
	if d.Options.NRI {
		args = append(args, "--nri-socket", d.NRISocket())
	}
	return append(args, d.Options.Args...)
}

// Start runs the daemon and returns when it answers Version. The process dies with
// this one only through Close: a test binary that is killed leaves its daemon to
// the next census.
func (d *Daemon) Start(ctx context.Context) error {
	out, err := os.OpenFile(d.DaemonLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	defer out.Close()
	line := append(append(slices.Clone(d.Options.Under), filepath.Join(d.bin, "vitrined")), d.Args()...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(append(os.Environ(), "VITRINE_INSTANCE="+d.Name), d.Options.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = "/"
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }() // waited for by Kill9, Stop or Close
	d.mu.Lock()
	d.cmd, d.done = cmd, done
	d.mu.Unlock()
	return d.waitReady(ctx, done)
}

// waitReady polls, because a socket that is not there yet gives nothing to wait on.
func (d *Daemon) waitReady(ctx context.Context, done <-chan struct{}) error {
	cri, err := d.CRI()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, Scale(20*time.Second))
	defer cancel()
	for {
		_, err := cri.Version(ctx, &runtime.VersionRequest{})
		if err == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("daemon ended while starting: %v\n%s", d.cmd.ProcessState, tail(d.DaemonLog(), 4096))
		case <-ctx.Done():
			return fmt.Errorf("daemon does not answer: %w\n%s", err, tail(d.DaemonLog(), 4096))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// CRI is the client of the daemon's socket. It stays the same over restarts.
func (d *Daemon) CRI() (*CRI, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cri == nil {
		cri, err := Dial(d.Socket())
		if err != nil {
			return nil, err
		}
		d.cri = cri
	}
	return d.cri, nil
}

// PID is the daemon's process, 0 when none runs.
func (d *Daemon) PID() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		return 0
	}
	return d.cmd.Process.Pid
}

// Kill9 kills the daemon as a crash would and waits for its end.
func (d *Daemon) Kill9() error { return d.end(syscall.SIGKILL, Scale(10*time.Second)) }

// Stop asks the daemon to end and waits; past 20 s it is killed and that is an error.
func (d *Daemon) Stop() error { return d.end(syscall.SIGTERM, Scale(20*time.Second)) }

// Signal sends a signal to the daemon.
func (d *Daemon) Signal(sig syscall.Signal) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		return os.ErrProcessDone
	}
	return d.cmd.Process.Signal(sig)
}

func (d *Daemon) end(sig syscall.Signal, within time.Duration) error {
	d.mu.Lock()
	cmd, done := d.cmd, d.done
	d.cmd = nil
	d.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal daemon: %w", err)
	}
	select {
	case <-done:
		return nil
	case <-time.After(within):
	}
	// A Go program answers SIGQUIT with its goroutines: that is what says why it hangs.
	cmd.Process.Signal(syscall.SIGQUIT)
	time.Sleep(500 * time.Millisecond)
	cmd.Process.Kill()
	<-done
	return fmt.Errorf("daemon did not end within %v of %v; its goroutines are in %s", within, sig, d.DaemonLog())
}

// Restart kills the daemon with SIGKILL and starts it again; the duration is from
// the start of the new process to its first answer.
func (d *Daemon) Restart(ctx context.Context) (time.Duration, error) {
	if err := d.Kill9(); err != nil {
		return 0, err
	}
	from := time.Now()
	err := d.Start(ctx)
	return time.Since(from), err
}

// Close ends the daemon and removes by force whatever of the instance is left:
// processes, mounts, cgroups, links, rules, files. It is the net under a failed
// test; a passing one proves by a Census that there is nothing for it to do.
func (d *Daemon) Close() error {
	errs := []error{d.Stop()}
	d.mu.Lock()
	if d.cri != nil {
		errs = append(errs, d.cri.Close())
		d.cri = nil
	}
	d.mu.Unlock()
	return errors.Join(append(errs, d.Sweep(), os.RemoveAll(d.Dir))...)
}

// tail returns the last n bytes of a file, or the reason why not.
func tail(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > n {
		f.Seek(-n, 2)
	}
	buf := make([]byte, n)
	got, _ := f.Read(buf)
	return string(buf[:got])
}

// Died is closed when the daemon's present process is gone, by itself or by Kill9.
func (d *Daemon) Died() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}
