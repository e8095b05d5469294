package monitor

import (
	"bytes"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/vitrine-runtime/vitrine/monitor/logfile"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// sample is a monitor with something of everything that a state carries.
func sample() *monitor {
	m := &monitor{}
	m.prime()
	m.config = wire.Config{ID: "abc", Dir: "/run/c", LogPath: "/logs/0.log", Terminal: false, Stdin: true, OOMScoreAdj: -7,
		Attributes: []wire.Attribute{{Key: "k", Value: "v"}}, LogLimit: wire.LogLimit{Policy: wire.LimitDrop, Rate: 1000}}
	m.counts = wire.Counters{PID: 77, Execs: 5, SpansSent: 9}
	m.collectAt = 300
	m.control.listener = 5
	m.control.conns = []*conn{{m: m, fd: 3}, {m: m, fd: 11}}
	m.init.state, m.init.pid, m.init.group, m.init.startedAt, m.init.sharesPIDs = running, 77, "/sys/fs/cgroup/x", 123456, true
	m.init.words.text = []byte("last words")
	m.streams[0].fd, m.streams[1].fd = 8, 9
	m.stdin = stdin{m: m, fd: 10, buf: []byte("0123456789"), off: 3, len: 7, armed: true}
	h := logfile.Handover{Dir: 6, FD: 7, Last: 1 << 60, Torn: true, LostBytes: [2]uint64{4, 40}, LostLines: [2]uint64{2, 20},
		Limits: [2]logfile.LimitState{{Tokens: -5, Over: true, Inside: true, Skip: true, LeftBytes: 6, LeftLines: 1}, {Tokens: 7, HeldMillis: 8}},
		Tails:  [2][]byte{[]byte("begin"), []byte("warn")}, Open: [2]bool{true, false},
		Counters: logfile.Counters{BytesIn: 1, BytesOut: 2, Lines: 3, Partials: 4, Dropped: 5, DroppedLines: 6, Errors: 7, LastError: syscall.ENOSPC, Reopens: 8,
			Limited: 9, LimitedLines: 10, Pauses: 11, PausedMillis: 12}}
	m.limitStreams()
	m.log, _ = logfile.Resume(m.config.LogPath, 0, 0, &h, m.streams[0].lines, m.streams[1].lines)
	c := &client{}
	c.prime(m)
	c.conn, c.id, c.in.fd, c.out[0].fd, c.out[1].skipped, c.stalled.at = m.control.conns[1], 4, 12, 13, 99, 1<<50
	m.clients = []*client{c}
	m.execs = []*session{{m: m, conn: m.control.conns[0], id: 6, pid: 88, killed: true}, {m: m, id: 7, pid: 89}}
	m.report.begun, m.report.startedAt, m.report.firstAt, m.report.firstTold = 1, 2, 3, true
	m.report.start = context{trace: [16]byte{1, 2}, span: [8]byte{3}, sampled: true}
	m.report.queue, m.report.spans = []byte("spans"), [2]uint64{0, 2}
	m.report.spool.fd, m.report.spool.size, m.report.spool.offset = 14, 500, 20
	m.upgrade.waiter, m.upgrade.count = waiter{conn: m.control.conns[0], id: 21}, 3
	return m
}

// plain is what a state carries, without pointers, so that two can be compared.
func plain(m *monitor) any {
	type sessionValue struct {
		conn, id, pid int
		killed        bool
	}
	at := func(c *conn) int {
		for i := range m.control.conns {
			if m.control.conns[i] == c {
				return i
			}
		}
		return -1
	}
	var sessions []sessionValue
	for _, s := range m.execs {
		sessions = append(sessions, sessionValue{at(s.conn), int(s.id), s.pid, s.killed})
	}
	var conns, clients []int
	for _, c := range m.control.conns {
		conns = append(conns, c.fd)
	}
	for _, c := range m.clients {
		clients = append(clients, at(c.conn), int(c.id), c.in.fd, c.out[0].fd, c.out[1].fd, int(c.out[0].skipped), int(c.out[1].skipped), int(c.stalled.at))
	}
	h := m.log.Handover(m.streams[0].lines, m.streams[1].lines)
	i := &m.init
	return []any{m.config, m.counts, m.collectAt, m.control.listener, conns, clients, sessions, h,
		i.state, i.pid, i.group, i.startedAt, i.sharesPIDs, i.verdict, string(i.words.text), m.streams[0].fd, m.streams[1].fd, m.tty.peer,
		m.stdin.fd, m.stdin.armed, m.stdin.closing, string(m.stdin.buf[m.stdin.off:m.stdin.len]),
		m.report.begun, m.report.startedAt, m.report.firstAt, m.report.firstTold, m.report.start, string(m.report.queue), m.report.spans,
		m.report.spool.fd, m.report.spool.size, m.report.spool.offset, at(m.upgrade.waiter.conn), m.upgrade.waiter.id, m.upgrade.count}
}

func TestStateComesBackWhole(t *testing.T) {
	m, again := sample(), &monitor{}
	state, fds := m.encodeState()
	again.prime()
	got, err := again.decodeState(state)
	if err != nil {
		t.Fatal(err)
	}
	if want := plain(m); !reflect.DeepEqual(want, plain(again)) {
		t.Errorf("became\n%+v, was\n%+v", plain(again), want)
	}
	if !reflect.DeepEqual(fds, got) || len(fds) != 11 {
		t.Errorf("descriptors %v, then %v", fds, got)
	}
}

func TestStateOfAnotherVersionIsRefused(t *testing.T) {
	state, _ := sample().encodeState()
	for _, v := range []byte{0, stateVersion + 1, 255} {
		other := bytes.Clone(state)
		other[len(stateMagic)] = v
		m := &monitor{}
		m.prime()
		if _, err := m.decodeState(other); err == nil || !strings.Contains(err.Message, "version") {
			t.Errorf("version %d: %v", v, err)
		}
	}
}

func TestStateSkipsWhatItDoesNotKnow(t *testing.T) {
	m, again := sample(), &monitor{}
	state, _ := m.encodeState()
	state = wire.AppendString(state, 900, "from the future")
	again.prime()
	if _, err := again.decodeState(state); err != nil || !reflect.DeepEqual(plain(m), plain(again)) {
		t.Errorf("%v", err)
	}
}

func FuzzState(f *testing.F) {
	state, _ := sample().encodeState()
	f.Add(state)
	f.Fuzz(func(t *testing.T, state []byte) { // property: what is accepted comes back from its encoding
		m, again := &monitor{}, &monitor{}
		m.prime()
		if _, err := m.decodeState(state); err != nil || m.log == nil {
			return
		}
		encoded, _ := m.encodeState()
		again.prime()
		if _, err := again.decodeState(encoded); err != nil || !reflect.DeepEqual(plain(m), plain(again)) {
			t.Fatalf("%v\n%+v\n%+v", err, plain(m), plain(again))
		}
	})
}
