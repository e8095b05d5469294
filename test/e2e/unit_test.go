package e2e

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// unit is the daemon as a service of systemd, by the unit file that is shipped.
type unit struct {
	*node
	service string
}

// shippedUnit lies beside the binaries where those are prebuilt.
func shippedUnit(t *testing.T) string {
	beside := filepath.Join(harness.Must(harness.Bin())(t), "../vitrined.service")
	raw, err := os.ReadFile(beside)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = os.ReadFile(filepath.Join(harness.Must(harness.Root())(t), "cmd/vitrined/vitrined.service"))
	}
	return string(harness.Must(raw, err)(t))
}

// startUnit installs the shipped unit with the instance's command line and a shorter
// watchdog, and starts it.
func startUnit(t *testing.T, o harness.Options) *unit {
	t.Helper()
	if _, err := os.Stat("/run/systemd/system"); err != nil || !harness.Disposable() {
		t.Skip("this test needs systemd as PID 1 of a machine of the tests' own, as in the guest")
	}
	o.RegistriesConf = fixture.RegistriesConf(hub.Addr)
	d := harness.Must(harness.NewDaemon(o))(t)
	u := &unit{&node{TB: t, Daemon: d, ctx: harness.Context(t, 5*time.Minute)}, d.Name + ".service"}
	file := "/run/systemd/system/" + u.service
	u.must(os.WriteFile(file, []byte(shippedUnit(t)), 0o644))
	u.must(os.MkdirAll(file+".d", 0o755))
	bin := harness.Must(harness.Bin())(t)
	u.must(os.WriteFile(file+".d/instance.conf", []byte("[Service]\nExecStart=\nExecStart="+filepath.Join(bin, "vitrined")+" "+strings.Join(d.Args(), " ")+
		"\nEnvironment=VITRINE_INSTANCE="+d.Name+"\nWatchdogSec=40\nTimeoutAbortSec=40\n"), 0o644))
	t.Cleanup(func() {
		u.journal()
		exec.Command("systemctl", "stop", u.service).Run()
		u.must(errors.Join(os.Remove(file), os.RemoveAll(file+".d"), d.Close()))
		exec.Command("systemctl", "daemon-reload").Run()
	})
	if out, err := exec.CommandContext(u.ctx, "systemd-analyze", "verify", file).CombinedOutput(); err != nil || strings.Contains(string(out), u.service) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	u.systemctl("daemon-reload")
	if limit, kill := u.show("StartLimitIntervalUSec"), u.show("KillMode"); limit != "0" || kill != "process" {
		t.Errorf("the unit's start limit is %s, its kill mode %s", limit, kill)
	}
	u.systemctl("start", u.service)
	u.cri = d.Client(t)
	return u
}

func (u *unit) systemctl(args ...string) string {
	u.Helper()
	out, err := exec.CommandContext(u.ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		u.Fatalf("systemctl %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (u *unit) show(property string) string {
	u.Helper()
	return u.systemctl("show", "--value", "-p", property, u.service)
}

// journal shows what systemd says of the unit when the test failed.
func (u *unit) journal() {
	if u.Failed() {
		out, _ := exec.Command("journalctl", "--no-pager", "-n", "60", "-u", u.service).CombinedOutput()
		u.Logf("the unit's journal:\n%s", out)
	}
}

// lives looks whether the container is what it was, and can be worked with.
func (u *unit) lives(after, id string, pid int) {
	u.Helper()
	s := harness.Must(u.cri.Status(u.ctx, id))(u)
	r := harness.Must(u.cri.Exec(u.ctx, id, 60, "/bin/echo", "here"))(u)
	if s.State != runtime.ContainerState_CONTAINER_RUNNING || initPID(u, u.node, id) != pid || string(r.Stdout) != "here\n" {
		u.Errorf("after %s: %v, pid %d was %d, exec said %q", after, s.State, initPID(u, u.node, id), pid, r.Stdout)
	}
}

// answers waits until another process than before serves.
func (u *unit) answers(before string) {
	u.Helper()
	ctx, cancel := context.WithTimeout(u.ctx, harness.Scale(time.Minute))
	defer cancel()
	for ctx.Err() == nil {
		if now := u.show("MainPID"); now != before && now != "0" && u.show("ActiveState") == "active" {
			if _, err := u.cri.Version(ctx, &runtime.VersionRequest{}); err == nil {
				return
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	u.Fatalf("the unit did not come back: main process %s was %s, %s", u.show("MainPID"), before, u.show("SubState"))
}

func TestTheUnitsEndsLeaveContainersAlone(t *testing.T) {
	const group = 2000
	u := startUnit(t, harness.Options{Config: "socket_group = " + strconv.Itoa(group) + "\n"})
	// Type=notify: started means that it serves.
	if _, err := u.cri.Version(u.ctx, &runtime.VersionRequest{}); err != nil {
		t.Fatalf("systemd says that it has started: %v", err)
	}
	for socket, want := range map[string]struct {
		mode fs.FileMode
		gid  uint32
	}{u.Socket(): {0o660, group}, u.API(): {0o600, 0}} {
		info := harness.Must(os.Stat(socket))(t)
		if owner := info.Sys().(*syscall.Stat_t); info.Mode().Perm() != want.mode || owner.Uid != 0 || owner.Gid != want.gid {
			t.Errorf("%s: mode %v, owner %d:%d, want %v 0:%d", socket, info.Mode(), owner.Uid, owner.Gid, want.mode, want.gid)
		}
	}
	u.image = harness.Must(u.cri.Pull(u.ctx, hub.Image))(t)
	p := u.Pod("unit")
	sandbox := harness.Must(u.cri.RunPod(u.ctx, p))(t)
	id, c := u.run(sandbox, p, "c", "/bin/sh", "-c", "env; echo up; while :; do sleep 1; done")
	waitLog(t, p, c, "up")
	pid := initPID(t, u.node, id)
	if log := harness.Must(harness.ReadLog(harness.LogPath(p, c)))(t); strings.Contains(string(log.Stdout), "NOTIFY_SOCKET") || strings.Contains(string(log.Stdout), "WATCHDOG") {
		t.Errorf("the container sees the unit's environment:\n%s", log.Stdout)
	}

	before := u.show("MainPID")
	u.systemctl("restart", u.service)
	u.answers(before)
	u.lives("a restart", id, pid)

	before = u.show("MainPID")
	u.systemctl("kill", "--kill-who=main", "--signal=KILL", u.service)
	u.answers(before)
	u.lives("a kill of the main process", id, pid)

	u.systemctl("stop", u.service)
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("after a stop of the unit the container's process: %v", err)
	}
	u.systemctl("start", u.service)
	u.lives("a stop and a start", id, pid)

	before = u.show("MainPID")
	u.systemctl("reload", u.service)
	if now := u.show("MainPID"); now != before {
		t.Errorf("a reload changed the main process from %s to %s", before, now)
	}

	// A daemon that hangs is what the watchdog is for.
	u.systemctl("kill", "--kill-who=main", "--signal=STOP", u.service)
	u.answers(before)
	u.lives("the watchdog", id, pid)
	if out, err := exec.CommandContext(u.ctx, "journalctl", "--no-pager", "-u", u.service).Output(); err != nil || !strings.Contains(string(out), "Watchdog timeout") {
		t.Errorf("the journal does not tell of the watchdog (%v)", err)
	}
	u.must(u.cri.RemovePod(u.ctx, sandbox))
}
