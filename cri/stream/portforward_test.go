package stream_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/vitrine-runtime/vitrine/cri/stream"
	"github.com/vitrine-runtime/vitrine/test/criclient"
)

func TestPortForwardCarriesManyConnectionsAndHalfClose(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	port := echo(t)
	base := runtime.NumGoroutine()
	for _, transport := range []criclient.Transport{criclient.SPDY, criclient.WebSocket} {
		t.Run(string(transport), func(t *testing.T) {
			forwarder, err := criclient.Forward(t.Context(), transport, forwardURL(t, server))
			if err != nil {
				t.Fatal(err)
			}
			defer forwarder.Close()
			for range 20 {
				conn, err := forwarder.Dial(port)
				if err != nil {
					t.Fatal(err)
				}
				text := strings.Repeat("hello ", 10000)
				go func() { io.WriteString(conn, text); conn.Close() }()
				got, err := io.ReadAll(conn)
				if err != nil || string(got) != text+"bye" {
					t.Fatalf("%v, %d bytes of %d", err, len(got), len(text)+3)
				}
				if err := conn.Err(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	settle(t, base)
}

func TestRefusedPortIsToldOnTheErrorStream(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	for _, transport := range []criclient.Transport{criclient.SPDY, criclient.WebSocket} {
		forwarder, err := criclient.Forward(t.Context(), transport, forwardURL(t, server))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := forwarder.Dial(closedPort(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Err(); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%s: %v", transport, err)
		}
		forwarder.Close()
	}
}

func TestPortForwardOverNumberedChannels(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	open, closed := int32(echo(t)), int32(closedPort(t))
	conn, err := criclient.DialWebSocket(t.Context(), forwardURL(t, server, open, closed), "v4.channel.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.WriteMessage(websocket.BinaryMessage, []byte("\x00ping")); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	got := map[byte]string{}
	for len(got[0]) < 6 || len(got[3]) < 3 {
		_, message, err := conn.ReadMessage()
		if err != nil {
			t.Fatal(err, got)
		}
		got[message[0]] += string(message[1:])
	}
	if want := string(binary.LittleEndian.AppendUint16(nil, uint16(open))) + "ping"; got[0] != want {
		t.Errorf("channel 0 carried %q, want %q", got[0], want)
	}
	if !strings.Contains(got[3], "connection refused") {
		t.Errorf("channel 3 carried %q", got[3])
	}
}

func TestBrokenPairsLeaveNoGoroutine(t *testing.T) {
	server := listen(t, stream.Config{CreationTimeout: 200 * time.Millisecond}, newShell())
	base := runtime.NumGoroutine()
	conn, err := criclient.DialSPDY(t.Context(), forwardURL(t, server), "portforward.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []http.Header{
		{"Port": {"80"}, "Streamtype": {"data"}, "Requestid": {"1"}},
		{"Port": {"80"}, "Streamtype": {"data"}, "Requestid": {"1"}},
		{"Port": {"81"}, "Streamtype": {"error"}, "Requestid": {"1"}},
		{"Port": {"0"}, "Streamtype": {"data"}, "Requestid": {"2"}},
		{"Port": {"99999"}, "Streamtype": {"data"}, "Requestid": {"3"}},
		{"Streamtype": {"data"}},
		{"Port": {"80"}, "Streamtype": {"bogus"}, "Requestid": {"4"}},
		{"Port": {"80"}, "Streamtype": {"error"}, "Requestid": {"5"}},
	} {
		conn.CreateStream(h)
	}
	time.Sleep(400 * time.Millisecond) // the pairs that stay alone are dropped
	conn.Close()
	settle(t, base)
}

func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
