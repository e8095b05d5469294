package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// startOf waits until the start on the container's record is as wanted.
func (n *node) startOf(id string, wanted func(pod.Start) bool) (s pod.Start) {
	n.Helper()
	for deadline := time.Now().Add(harness.Scale(30 * time.Second)); ; time.Sleep(10 * time.Millisecond) {
		status := harness.Must(n.cri.ContainerStatus(n.ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true}))(n)
		var info struct{ Start pod.Start }
		n.must(json.Unmarshal([]byte(status.Info["info"]), &info))
		if s = info.Start; wanted(s) {
			return s
		}
		if time.Now().After(deadline) {
			n.Fatalf("the start stays at %+v", s)
		}
	}
}

// A server's start is told from the execve to its first accept, under StartContainer, whose
// call has long returned by then.
func TestStartIsToldUpToTheFirstAccept(t *testing.T) {
	n := start(t, harness.Options{Config: "[runtime]\nannotations = [\"io.vitrine.accept\"]\n"})
	n.NeedWatch(t)
	idle := n.attached()
	p := n.HostPod("began")
	p.Annotations = map[string]string{"io.vitrine.accept": "true"}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	id := harness.Must(n.cri.Create(n.ctx, sandbox, p, harness.Container(p, "c", n.image, "/bin/payload", "serve", "0")))(t)
	ctx, traceID := harness.Traced(n.ctx)
	n.must(n.cri.Start(ctx, id))
	returned := time.Now()
	s := n.startOf(id, func(s pod.Start) bool { return !s.Listen.IsZero() })
	if s.Port == 0 || s.Exec.Before(s.Cloned) || s.Exec.Before(s.Asked) || s.Listen.Before(s.Exec) || !s.Connection.IsZero() || !s.Accept.IsZero() ||
		s.AtExec.MinorFaults == 0 || s.AtListen.MinorFaults < s.AtExec.MinorFaults {
		t.Errorf("listening: %+v", s)
	}
	if n.attached() == idle {
		t.Error("nothing is attached while an accept is waited for")
	}
	time.Sleep(time.Until(returned.Add(time.Second))) // the call must have been over for a while
	c := harness.Must(net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port)))(t)
	s = n.startOf(id, func(s pod.Start) bool { return !s.Accept.IsZero() && !s.Connection.IsZero() })
	c.Close()
	if s.Connection.Before(returned) || s.Accept.Before(returned) {
		t.Errorf("accepted: %+v, the call returned at %v", s, returned)
	}
	n.detached(idle)

	var root waterfall.Span
	var trace *waterfall.Trace
	want := []string{"ebpf.first_accept", "ebpf.first_connection", "ebpf.first_exec", "ebpf.first_listen", "monitor.first_output"}
	for deadline := time.Now().Add(harness.Scale(30 * time.Second)); ; time.Sleep(20 * time.Millisecond) {
		trace = harness.Must(n.Trace(n.ctx, traceID))(t)
		told := names(trace.Spans)
		if !slices.ContainsFunc(want, func(name string) bool { return !slices.Contains(told, name) }) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("told are %q, want also %q", told, want)
		}
	}
	root = server(t, trace, "StartContainer")
	for _, span := range trace.Spans {
		if !slices.Contains(want, span.Name) {
			continue
		}
		if parent := trace.Span(span.ParentID); parent == nil || parent.Name != "lifecycle.execute" || span.End < span.Start || span.Start < root.Start {
			t.Errorf("%+v is below %+v", span, parent)
		}
		if late := span.Name == "ebpf.first_accept" || span.Name == "ebpf.first_connection"; late && span.End <= root.End {
			t.Errorf("%s ended within the call: %+v", span.Name, span)
		}
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// Without an annotation nothing is attached to system calls, and the rest is told all the same,
// also what came while no daemon was there.
func TestStartIsToldWithoutAWatchAndThroughARestart(t *testing.T) {
	n := start(t, harness.Options{})
	n.NeedWatch(t)
	idle := n.attached()
	p := n.HostPod("quiet")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
	id, _ := n.run(sandbox, p, "c", "/bin/payload", "serve", "0")
	s := n.startOf(id, func(s pod.Start) bool { return !s.Listen.IsZero() })
	if n.attached() != idle {
		t.Errorf("%d programs and links, %d before", n.attached(), idle)
	}
	n.must(n.Kill9())
	c := harness.Must(net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port)))(t)
	c.Close()
	n.must(n.Start(n.ctx))
	n.cri = n.Client(t)
	after := n.startOf(id, func(s pod.Start) bool { return !s.Connection.IsZero() })
	if !after.Exec.Equal(s.Exec) || !after.Listen.Equal(s.Listen) || after.Connection.Before(s.Listen) || !after.Accept.IsZero() {
		t.Errorf("%+v after %+v", after, s)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}
