package lifecycle

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/oom/denial"
	"github.com/vitrine-runtime/vitrine/pod"
)

func TestDenialsAreOnRecordAndToldOncePerKind(t *testing.T) {
	m, b := observed(t)
	e := m.withContainer(t, pod.Running, pod.Evidence{Cgroup: 7, Watched: true})
	m.watched.set(7, true)
	events := m.Subscribe(100)
	line := func(syscall int, path string) denial.Line {
		return denial.Line{Layer: ebpf.ReadOnly, Syscall: syscall, Capability: -1, Error: unix.EROFS, Path: path, Count: 1}
	}
	b.denials[7] = []denial.Line{line(unix.SYS_OPENAT, "/a"), line(unix.SYS_OPENAT, "/b")}
	m.takeDenials(t.Context(), e)
	m.takeDenials(t.Context(), e)
	for syscall := range 2 * pod.MaxDenials {
		b.denials[7] = append(b.denials[7], line(syscall, ""))
	}
	m.takeDenials(t.Context(), e)
	ev := e.value.Load().Evidence
	if len(ev.Denials) != pod.MaxDenials || ev.DenialsLost != pod.MaxDenials+2 || ev.Denials[1].Path != "/b" || ev.Denials[0].Error != "EROFS" {
		t.Errorf("%d denials, %d lost: %+v", len(ev.Denials), ev.DenialsLost, ev.Denials[0])
	}
	if n := len(events.Events()); n != pod.MaxDenialEvents {
		t.Errorf("%d events, want %d", n, pod.MaxDenialEvents)
	}
	if e := <-events.Events(); e.Kind != pod.ContainerDenied || e.Denial == nil || e.Denial.Path != "/a" || e.Denial.Remedy == "" {
		t.Errorf("%+v", e.Denial)
	}
	m.watched.set(7, false) // as untrack does
	if ledger, lost := m.Denials(t.Context(), *e.value.Load()); len(ledger) != pod.MaxDenials || lost != pod.MaxDenials+2 {
		t.Errorf("after the end: %d denials, %d lost", len(ledger), lost)
	}
}
