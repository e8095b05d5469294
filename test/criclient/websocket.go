package criclient

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// The channels of a command's WebSocket, and the half-close message's first byte.
const (
	channelStdin = iota
	channelStdout
	channelStderr
	channelStatus
	channelResize
	streamClose = 255
)

// DialWebSocket upgrades url to a WebSocket that speaks protocol.
func DialWebSocket(ctx context.Context, target, protocol string) (*websocket.Conn, error) {
	dialer := websocket.Dialer{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		ReadBufferSize:  32 << 10, WriteBufferSize: 32 << 10,
	}
	if protocol != "" {
		dialer.Subprotocols = []string{protocol}
	}
	target = "ws" + strings.TrimPrefix(target, "http")
	conn, response, err := dialer.DialContext(ctx, target, http.Header{})
	if err != nil {
		if response != nil {
			err = fmt.Errorf("%w (%s)", err, response.Status)
		}
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	if conn.Subprotocol() != protocol {
		conn.Close()
		return nil, fmt.Errorf("dial %s: the server chose protocol %q, not %q", target, conn.Subprotocol(), protocol)
	}
	return conn, nil
}

func runWebSocket(ctx context.Context, target string, streams Streams, protocol string) (int32, error) {
	conn, err := DialWebSocket(ctx, target, protocol)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	out := &messages{conn: conn}
	if streams.Stdin != nil {
		go func() { // ends with the caller's reader
			io.Copy(channel{out, channelStdin}, struct{ io.Reader }{streams.Stdin})
			if protocol == "v5.channel.k8s.io" {
				out.send([]byte{streamClose, channelStdin})
			}
		}()
	}
	if streams.Resize != nil {
		go func() { // ends when the caller closes the channel
			for size := range streams.Resize {
				json.NewEncoder(channel{out, channelResize}).Encode(size)
			}
		}()
	}
	var status []byte
	for {
		_, message, err := conn.ReadMessage()
		if err != nil {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				return 0, fmt.Errorf("read session: %w", err)
			}
			break
		}
		if len(message) == 0 {
			return 0, errors.New("the server sent a message without a channel")
		}
		switch n, payload := message[0], message[1:]; n {
		case channelStdout:
			_, err = streams.Stdout.Write(payload)
		case channelStderr:
			_, err = streams.Stderr.Write(payload)
		case channelStatus:
			status = append(status, payload...)
		default:
			err = fmt.Errorf("the server sent a message on channel %d", n)
		}
		if err != nil {
			return 0, err
		}
	}
	if len(status) == 0 && !strings.HasPrefix(protocol, "v") {
		return 0, nil // versions before 4 report failures only
	}
	if !strings.HasPrefix(protocol, "v") {
		return 0, errors.New(string(status))
	}
	return parseStatus(status)
}

// messages serializes writers of one WebSocket.
type messages struct {
	mu   sync.Mutex // guards writing to conn
	conn *websocket.Conn
}

func (m *messages) send(message []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conn.WriteMessage(websocket.BinaryMessage, message)
}

type channel struct {
	out *messages
	n   byte
}

// Write sends p as one message.
func (c channel) Write(p []byte) (int, error) {
	if err := c.out.send(append([]byte{c.n}, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// dialTunnel opens a SPDY connection inside a WebSocket.
func dialTunnel(ctx context.Context, target string) (httpstream.Connection, error) {
	conn, err := DialWebSocket(ctx, target, portforward.WebsocketsSPDYTunnelingPortForwardV1)
	if err != nil {
		return nil, err
	}
	return spdy.NewClientConnection(&tunnel{conn: conn})
}

// tunnel is a net.Conn whose bytes travel in binary messages.
type tunnel struct {
	conn    *websocket.Conn
	message io.Reader
}

func (t *tunnel) Read(p []byte) (int, error) {
	for {
		if t.message == nil {
			_, message, err := t.conn.NextReader()
			if err != nil {
				if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
					err = io.EOF
				}
				return 0, err
			}
			t.message = message
		}
		n, err := t.message.Read(p)
		if err == io.EOF {
			t.message, err = nil, nil
			if n == 0 {
				continue
			}
		}
		return n, err
	}
}

func (t *tunnel) Write(p []byte) (int, error) {
	if err := t.conn.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (t *tunnel) Close() error         { return t.conn.Close() }
func (t *tunnel) LocalAddr() net.Addr  { return t.conn.LocalAddr() }
func (t *tunnel) RemoteAddr() net.Addr { return t.conn.RemoteAddr() }

func (t *tunnel) SetReadDeadline(at time.Time) error  { return t.conn.SetReadDeadline(at) }
func (t *tunnel) SetWriteDeadline(at time.Time) error { return t.conn.SetWriteDeadline(at) }
func (t *tunnel) SetDeadline(at time.Time) error {
	return errors.Join(t.conn.SetReadDeadline(at), t.conn.SetWriteDeadline(at))
}
