package oom

import (
	"time"

	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Began is how a container began, by the clock on the wall. now is the present moment by
// both clocks.
func Began(s Start, now time.Time, sinceBoot time.Duration) pod.Start {
	at := func(t time.Duration) time.Time {
		if t == 0 {
			return time.Time{}
		}
		return now.Add(t - sinceBoot)
	}
	use := func(u ebpf.Use) pod.StartUse {
		return pod.StartUse{MinorFaults: u.MinorFaults, MajorFaults: u.MajorFaults, ReadBytes: u.ReadBytes}
	}
	return pod.Start{Cloned: at(s.Cloned), Exec: at(s.Exec), Listen: at(s.Listen), Port: s.Port, Connection: at(s.Connection),
		AtExec: use(s.AtExec), AtListen: use(s.AtListen)}
}
