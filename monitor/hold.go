package monitor

import (
	"syscall"

	"github.com/vitrine-runtime/vitrine/monitor/logfile"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// hold keeps a stream from being read while its limit is overdrawn: its pipe fills and
// its writers wait. One wait is bounded by the limit's Pause. A held stream is out of the
// loop, where its hang-up would be reported for ever; the exit of the init does not wait
// for it, what the pipe holds is read then.
type hold struct{ until timer }

// limitStreams puts the configured limit on both streams.
func (m *monitor) limitStreams() {
	l := m.config.LogLimit
	if l.Policy == 0 {
		return
	}
	for i := range m.streams {
		s := &m.streams[i]
		s.lines.SetLimit(logfile.Limit{Policy: logfile.Policy(l.Policy), Rate: l.Rate, Burst: l.Burst, Sample: l.Sample, Pause: l.Pause})
		if l.Policy == wire.LimitBackpressure {
			s.held.until.fire = s.resume
			m.timers = append(m.timers, &s.held.until)
		}
	}
}

// pause takes the stream out of the loop when its limit asks for it.
func (s *stream) pause() bool {
	if s.held.until.fire == nil || s.fd < 0 || s.m.guard.away {
		return false
	}
	ms := s.m.log.Pause(s.lines, now())
	if ms == 0 {
		return false
	}
	s.m.unwatch(s.fd)
	s.held.until.set(ms)
	return true
}

func (s *stream) resume() {
	if s.fd >= 0 {
		s.m.watch(s.fd, syscall.EPOLLIN, s)
	}
}
