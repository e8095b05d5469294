package client_test

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// older is what an older daemon or monitor sent, by name.
func older(t *testing.T, sender string) map[string][]byte {
	t.Helper()
	f, err := os.Open("testdata/older.trace")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	packets := map[string][]byte{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if word := strings.Fields(lines.Text()); word[0] == sender {
			if packets[word[1]], err = hex.DecodeString(word[2]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(packets) < 5 {
		t.Fatalf("%d packets", len(packets))
	}
	return packets
}

func TestOlderDaemonIsAnswered(t *testing.T) {
	b := newBox(t, "sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done").start()
	b.eventually("its output", func() bool { out, _ := b.log(); return out == "up\n" })
	dir, err := os.Open(b.dir)
	b.must(err)
	defer dir.Close()
	sock, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: fmt.Sprintf("/proc/self/fd/%d/ctl", dir.Fd())})
	b.must(err)
	defer sock.Close()
	b.must(sock.SetDeadline(time.Now().Add(30 * time.Second)))
	packets := older(t, "daemon")
	ask := func(name string) (m wire.Message) {
		t.Helper()
		_, err := sock.Write(packets[name])
		b.must(err)
		buf := make([]byte, wire.MaxPacket)
		oob := make([]byte, 64)
		n, oobn, _, _, err := sock.ReadMsgUnix(buf, oob)
		b.must(err)
		if oobn != 0 {
			t.Errorf("%s: descriptors came that an older daemon would keep", name)
		}
		b.must(m.Parse(buf[:n]))
		return m
	}
	var info wire.Info
	if m := ask("hello"); m.ID != 1 || info.Parse(m.Body) != nil || info.ID != b.spawn.ID || !info.Started {
		t.Errorf("hello: %+v, %+v", m, info)
	}
	var c wire.Counters
	if m := ask("stats"); m.ID != 2 || c.Parse(m.Body) != nil || c.LogLines != 1 {
		t.Errorf("stats: %+v, %+v", m, c)
	}
	if m := ask("reopen"); m.ID != 3 || m.Flags != 0 {
		t.Errorf("reopen: %+v", m)
	}
	if m := ask("resize"); m.ID != 4 || m.Flags&wire.FlagError == 0 { // it has no terminal
		t.Errorf("resize: %+v", m)
	}
	if m := ask("signal"); m.ID != 5 || m.Flags != 0 {
		t.Errorf("signal: %+v", m)
	}
	b.exit()
}

func TestOlderMonitorIsUnderstood(t *testing.T) {
	packets := older(t, "monitor")
	dir := t.TempDir()
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Net: "unixpacket", Name: dir + "/" + wire.CtlFile})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var playing sync.WaitGroup
	playing.Go(func() {
		sock, err := listener.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer sock.Close()
		buf := make([]byte, wire.MaxPacket)
		for _, answers := range [][]string{{"hello"}, {"stats"}, {"unknown", "ended", "exited"}} {
			if _, err := sock.Read(buf); err != nil {
				t.Error(err)
				return
			}
			for _, name := range answers {
				sock.Write(packets[name])
			}
		}
		sock.Read(buf) // until the other side closes
	})
	ctx := t.Context()
	m, err := client.Connect(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.PID() != 42 || m.MonitorPID() != 41 || m.Build() != "" {
		t.Errorf("init %d, monitor %d, build %q", m.PID(), m.MonitorPID(), m.Build())
	}
	if c, err := m.Stats(ctx); err != nil || c.LogBytesIn != 1000 || c.Execs != 3 {
		t.Errorf("%+v, %v", c, err)
	}
	var refused *launch.Error
	if err := m.Upgrade(ctx, monitorPath); !errors.As(err, &refused) || refused.Kind != launch.KindInvalid {
		t.Errorf("upgrade: %v", err)
	}
	<-m.Exited()
	if e, ok := m.Exit(); !ok || e.Code() != 7 || e.Source != "" {
		t.Errorf("exit %+v", e)
	}
	m.Close()
	playing.Wait()
}
