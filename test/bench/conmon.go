package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// conmonName is the peer that is no runtime: the installed conmon with the installed
// runc, started as CRI-O starts them, without a daemon. Only what a monitor does is
// compared with it: log throughput, and memory per container.
const conmonName = "conmon"

// conmonParts are the parts that it can play.
var conmonParts = map[string]func(context.Context, options, *conmonPeer, *report) error{
	"logs": conmonLogs, "density": conmonDensity,
}

// conmonPeer owns a directory with a root file system and everything below it.
type conmonPeer struct{ dir string }

func openConmon() (*conmonPeer, error) {
	for _, program := range []string{"conmon", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, err
		}
	}
	payload, err := harness.Payload()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "conmon")
	if err != nil {
		return nil, err
	}
	p := &conmonPeer{dir}
	for _, sub := range []string{"rootfs/bin", "rootfs/proc", "rootfs/dev", "exits", "runtime", "sockets"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	if err = errors.Join(err, os.WriteFile(dir+"/rootfs/bin/payload", payload, 0o755)); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *conmonPeer) close() error { return os.RemoveAll(p.dir) }

// monitored is one container with its conmon.
type monitored struct {
	p    *conmonPeer
	id   string
	init int     // the container's first process
	pid  int     // conmon's
	cpu  float64 // conmon's, in seconds, when last looked at
}

func (c *monitored) path(name string) string { return filepath.Join(c.p.dir, c.id, name) }

// number is the one in a file, 0 before there is one.
func (c *monitored) number(file string) int {
	raw, _ := os.ReadFile(c.path(file))
	n, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return n
}

// create makes a container whose init waits for its start.
func (p *conmonPeer) create(ctx context.Context, id string, args ...string) (*monitored, error) {
	c := &monitored{p: p, id: fmt.Sprintf("%s-%d", id, os.Getpid())}
	spec := specs.Spec{
		Version: "1.0.2", Root: &specs.Root{Path: p.dir + "/rootfs", Readonly: true},
		Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=65536k"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/vitrine-bench-conmon/" + c.id,
			Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace}},
		},
	}
	raw, err := json.Marshal(spec)
	if err == nil {
		err = os.MkdirAll(c.path(""), 0o755)
	}
	if err == nil {
		err = os.WriteFile(c.path("config.json"), raw, 0o600)
	}
	if err != nil {
		return nil, err
	}
	runc, _ := exec.LookPath("runc")
	cmd := exec.CommandContext(ctx, "conmon", "--api-version", "1", "-c", c.id, "-u", c.id, "-n", c.id, "-r", runc, "-b", c.path(""),
		"-p", c.path("pid"), "-P", c.path("conmon.pid"), "-l", "k8s-file:"+c.path("log"), "--exit-dir", p.dir+"/exits",
		"--socket-dir-path", p.dir+"/sockets", "--no-sync-log", "--log-level", "error", "--runtime-arg", "--root="+p.dir+"/runtime")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil { // it goes on in the background
		return nil, fmt.Errorf("run conmon: %w", err)
	}
	err = soon(ctx, "the container waits for its start", func() (bool, error) {
		c.init = c.number("pid") // which conmon writes when runc has created it
		c.pid = c.number("conmon.pid")
		return c.init > 0 && c.pid > 0, nil
	})
	return c, err
}

func (c *monitored) runc(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "runc", append([]string{"--root", c.p.dir + "/runtime"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("runc %s: %w: %s", args[0], err, out)
	}
	return nil
}

// ended waits for the end of the container and looks at conmon's CPU time: conmon ends with
// its container, so the last tenth of a second may be missing.
func (c *monitored) ended(ctx context.Context) error {
	look := func() { c.cpu = max(c.cpu, cpuOf(c.pid)) }
	if err := processEnds(ctx, c.init, look); err != nil {
		return err
	}
	return soon(ctx, "the container ends", func() (bool, error) {
		look()
		code, err := os.ReadFile(c.p.dir + "/exits/" + c.id)
		if err != nil || len(code) == 0 {
			return false, ignoreMissing(err)
		}
		if string(code) != "0" {
			err = fmt.Errorf("container %s ended with %s", c.id, code)
		}
		return true, err
	})
}

// remove ends and removes the container and waits for its conmon.
func (c *monitored) remove() error {
	ctx := context.Background()
	err := c.runc(ctx, "delete", "--force", c.id)
	gone := soon(ctx, "conmon ends", func() (bool, error) { return syscall.Kill(c.pid, 0) == syscall.ESRCH, nil })
	for _, root := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup"} {
		dirs, _ := filepath.Glob(root + "/vitrine-bench-conmon")
		for _, dir := range dirs {
			os.Remove(dir) // when it was the last one's
		}
	}
	return errors.Join(err, gone, os.RemoveAll(c.path("")), ignoreMissing(os.Remove(c.p.dir+"/exits/"+c.id)))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// conmonLogs is measureLogs.
func conmonLogs(ctx context.Context, o options, p *conmonPeer, r *report) error {
	for _, turn := range logTurns {
		if err := p.logs(ctx, o, r, turn); err != nil {
			return err
		}
	}
	return nil
}

func (p *conmonPeer) logs(ctx context.Context, o options, r *report, turn logTurn) (err error) {
	writers := turn.writers
	lines := o.logMiB << 20 / 100 / writers
	var all []*monitored
	var logs []string
	defer func() {
		for _, c := range all {
			err = errors.Join(err, c.remove())
		}
	}()
	for i := range writers {
		c, err := p.create(ctx, fmt.Sprintf("w%d", i), "/bin/payload", "lines", strconv.Itoa(lines), "100")
		if c != nil {
			all, logs = append(all, c), append(logs, c.path("log"))
		}
		if err != nil {
			return err
		}
	}
	if err := o.prepare(turn, logs, lines); err != nil {
		return err
	}
	busy, err := cpuSeconds()
	if err != nil {
		return err
	}
	from := time.Now()
	for _, c := range all {
		if err := c.runc(ctx, "start", c.id); err != nil {
			return err
		}
	}
	if err := each(writers, func(i int) error { return all[i].ended(ctx) }); err != nil {
		return err
	}
	wall := time.Since(from).Seconds()
	after, err := cpuSeconds()
	if err != nil {
		return err
	}
	own := 0.0
	for _, c := range all {
		own += c.cpu
	}
	addLogs(r, conmonName, turn, float64(lines*100*writers), wall, after-busy, own)
	return complete(logs, lines)
}

// conmonDensity is measureDensity, without a daemon.
func conmonDensity(ctx context.Context, o options, p *conmonPeer, r *report) (err error) {
	var all []*monitored
	defer func() {
		for _, c := range all {
			err = errors.Join(err, c.remove())
		}
	}()
	for i := range o.density {
		c, err := p.create(ctx, fmt.Sprintf("d%d", i), "/bin/payload", "wait")
		if c != nil {
			all = append(all, c)
		}
		if err == nil {
			err = c.runc(ctx, "start", c.id)
		}
		if err != nil {
			return err
		}
	}
	time.Sleep(2 * time.Second)
	var sum memory
	for _, c := range all {
		m, err := memoryOf(c.pid)
		if err != nil {
			return err
		}
		sum.pss, sum.private = sum.pss+m.pss, sum.private+m.private
	}
	per := float64(o.density) * 1024
	r.add(conmonName, "monitors' private dirty per container", kibibytes, float64(sum.private)/per)
	r.add(conmonName, "monitors' PSS per container", kibibytes, float64(sum.pss)/per)
	return nil
}
