package stream

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"golang.org/x/net/websocket"
)

// dialect is what a WebSocket subprotocol means.
type dialect struct {
	// structured statuses are JSON with the exit code, others plain text.
	structured bool
	// base64 messages are text with a digit for the channel, others are bytes.
	base64 bool
	// halfClose: the message 255,N says that the client closed channel N.
	halfClose bool
	// tunnel messages are pieces of a SPDY connection.
	tunnel bool
}

// maxMessage bounds the messages that are sent, in bytes of payload.
const maxMessage = 64 << 10

// streamClose is the first byte of a half-close message.
const streamClose = 255

// upgrade makes the visit's connection a WebSocket in the first subprotocol of the
// client that is in spoken, and runs serve on it. An error means that serve did
// not run and that the client was told.
func upgrade(v *visit, spoken map[string]dialect, serve func(*websocket.Conn, dialect)) error {
	refused := errors.New("the WebSocket handshake failed")
	choose := func(config *websocket.Config, _ *http.Request) error {
		if len(config.Protocol) == 0 {
			return nil
		}
		for _, offered := range config.Protocol {
			if _, ok := spoken[offered]; ok {
				config.Protocol = []string{offered}
				return nil
			}
		}
		refused = fmt.Errorf("the client speaks only %.200q", config.Protocol)
		return websocket.ErrBadWebSocketProtocol
	}
	websocket.Server{Handshake: choose, Handler: func(ws *websocket.Conn) {
		refused = nil
		protocol := ""
		if chosen := ws.Config().Protocol; len(chosen) > 0 {
			protocol = chosen[0]
		}
		speak := spoken[protocol]
		ws.PayloadType = websocket.BinaryFrame
		if speak.base64 {
			ws.PayloadType = websocket.TextFrame
		}
		serve(ws, speak)
	}}.ServeHTTP(v.w, v.r)
	return refused
}

// channels are numbered byte streams within one WebSocket. Messages are passed on
// piece by piece, so that their size costs no memory.
type channels struct {
	ws    *websocket.Conn
	speak dialect
	in    []*io.PipeWriter // nil: what arrives is dropped
	ends  []*io.PipeReader
	last  *io.PipeWriter // where the fragments of the present message go

	mu  sync.Mutex // guards out and the order of messages
	out []byte
}

func newChannels(ws *websocket.Conn, speak dialect, n int) *channels {
	return &channels{ws: ws, speak: speak, in: make([]*io.PipeWriter, n), ends: make([]*io.PipeReader, n)}
}

// reader returns what arrives on channel n. Call it before serve.
func (c *channels) reader(n int) io.Reader {
	c.ends[n], c.in[n] = io.Pipe()
	return c.ends[n]
}

// writer returns a stream whose bytes leave on channel n.
func (c *channels) writer(n byte) io.Writer { return channelWriter{c, n} }

type channelWriter struct {
	wire *channels
	n    byte
}

// Write sends p in messages of bounded size.
func (w channelWriter) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		piece := p[sent:min(sent+maxMessage, len(p))]
		if err := w.wire.send(w.n, piece); err != nil {
			return sent, err
		}
		sent += len(piece)
	}
	return sent, nil
}

// send sends one message on channel n.
func (c *channels) send(n byte, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.speak.base64 {
		c.out = base64.StdEncoding.AppendEncode(append(c.out[:0], '0'+n), payload)
	} else {
		c.out = append(append(c.out[:0], n), payload...)
	}
	_, err := c.ws.Write(c.out)
	return err
}

// serve passes on what arrives until the client is gone, which ends conn. The
// caller waits on the returned group after close.
func (c *channels) serve(conn *clientConn) *sync.WaitGroup {
	var group sync.WaitGroup
	group.Go(func() {
		for c.receive() == nil {
		}
		for _, in := range c.in {
			if in != nil {
				in.Close()
			}
		}
		conn.end(errClientGone)
	})
	return &group
}

// receive passes on one frame.
func (c *channels) receive() error {
	frame, err := c.ws.NewFrameReader()
	if err != nil {
		return err
	}
	begins := frame.PayloadType() != websocket.ContinuationFrame
	if frame, err = c.ws.HandleFrame(frame); err != nil || frame == nil {
		return err // nil, nil: a ping or pong, which HandleFrame answered
	}
	var payload io.Reader = frame
	if begins {
		if payload, err = c.begin(frame); err != nil {
			return err
		}
	} else if c.speak.base64 {
		return errors.New("a base64 message must be one frame")
	}
	if c.last != nil {
		io.Copy(c.last, payload) // a reader that left is no error: the rest is dropped
	}
	_, err = io.Copy(io.Discard, frame)
	return err
}

// begin reads the channel number before a message and returns the rest of its
// frame. A half-close message is carried out.
func (c *channels) begin(frame io.Reader) (io.Reader, error) {
	c.last = nil
	var n [1]byte
	if _, err := io.ReadFull(frame, n[:]); err == io.EOF {
		return frame, nil // an empty message
	} else if err != nil {
		return nil, err
	}
	switch {
	case c.speak.halfClose && n[0] == streamClose:
		if _, err := io.ReadFull(frame, n[:]); err != nil {
			return nil, err
		}
		if in := c.channel(n[0]); in != nil {
			in.Close()
		}
		return frame, nil
	case c.speak.base64:
		c.last = c.channel(n[0] - '0')
		return base64.NewDecoder(base64.StdEncoding, frame), nil
	default:
		c.last = c.channel(n[0])
		return frame, nil
	}
}

func (c *channels) channel(n byte) *io.PipeWriter {
	if int(n) >= len(c.in) {
		return nil
	}
	return c.in[n]
}

// close ends the WebSocket: it drops further input, says goodbye, gives the client
// time to hang up, and closes conn.
func (c *channels) close(conn *clientConn) {
	for _, end := range c.ends {
		if end != nil {
			end.Close()
		}
	}
	c.ws.WriteClose(1000) // normal closure, RFC 6455 section 7.4.1
	conn.linger(lingerBound)
	conn.Close()
}
