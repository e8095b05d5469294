package ebpf_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/ebpf"
)

func TestStartIsTimed(t *testing.T) {
	p := open(t)
	events := listen(t, p)
	dir, id := newCgroup(t, "", "start", 0)
	track(t, p, id)
	profile := func() ebpf.Start {
		t.Helper()
		s, err := p.StartProfile(id)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := profile(); s != (ebpf.Start{}) {
		t.Fatalf("before the start: %+v", s)
	}
	// PID 1 must be known before its execve in the cgroup, so a shell waits for that.
	cmd := exec.Command("/bin/sh", "-c", `read go; echo $$ >"$0/cgroup.procs"; exec "$1"`, dir, "/proc/self/exe")
	cmd.Args[len(cmd.Args)-1], _ = os.Executable()
	cmd.Env = append(os.Environ(), "PLAY=listen")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	before := sinceBoot()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	setInit(t, p, id, cmd.Process.Pid)
	fmt.Fprintln(in, "go")
	next(t, events, ebpf.Exec, id)
	s := profile()
	if s.Cloned < before-time.Second || s.Exec < s.Cloned || s.Exec > sinceBoot() || s.Listen != 0 || s.Connection != 0 || s.AtExec.MinorFaults == 0 {
		t.Errorf("after execve: %+v, begun at %v", s, before)
	}
	fmt.Fprintln(in, "listen")
	var port int
	if _, err := fmt.Fscan(out, &port); err != nil {
		t.Fatal(err)
	}
	s = profile()
	if s.Listen < s.Exec || s.Port != port || s.Connection != 0 || s.AtListen.MinorFaults < s.AtExec.MinorFaults {
		t.Errorf("listening on %d: %+v", port, s)
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if s = profile(); s.Connection < s.Listen || s.Connection > sinceBoot() {
		t.Errorf("connected: %+v", s)
	}
	in.Close()
	cmd.Wait()
	if again := profile(); again != s {
		t.Errorf("changed from %+v to %+v", s, again)
	}
}
