package ebpf_test

import (
	"fmt"
	"net"
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
	w := watch(t, p, id, ebpf.WatchOptions{Accept: true})
	before := sinceBoot()
	cmd, in, out := startInit(t, p, dir, id, "listen")
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
	next(t, events, ebpf.Progress, id)
	s = profile()
	if s.Listen < s.Exec || s.Port != port || s.Connection != 0 || s.AtListen.MinorFaults < s.AtExec.MinorFaults {
		t.Errorf("listening on %d: %+v", port, s)
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	next(t, events, ebpf.Progress, id)
	if s = profile(); s.Connection < s.Listen || s.Connection > sinceBoot() {
		t.Errorf("connected: %+v", s)
	}
	next(t, events, ebpf.Progress, id) // the connection was first, then somebody accepted it
	if at, err := w.Accepted(); err != nil || at < s.Connection || at > sinceBoot() {
		t.Errorf("accepted at %v, connected at %v: %v", at, s.Connection, err)
	}
	in.Close()
	cmd.Wait()
	if again := profile(); again != s {
		t.Errorf("changed from %+v to %+v", s, again)
	}
}
