package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/net/websocket"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/vitrine-runtime/vitrine/telemetry"
)

// maxForwards bounds the forwarded connections of one session.
const maxForwards = 1000

// forwardProtocols are the WebSocket subprotocols of port forwarding.
var forwardProtocols = map[string]dialect{
	portforward.WebsocketsSPDYTunnelingPortForwardV1: {tunnel: true},
	"v4.channel.k8s.io":        {},
	"v4.base64.channel.k8s.io": {base64: true},
	"":                         {},
}

// portForward connects a client to ports of a pod.
func (s *Server) portForward(v *visit) {
	var err error
	request := v.grant.request.(*runtime.PortForwardRequest)
	ctx, span := telemetry.Start(v.ctx, "cri.portforward", attribute.String("vitrine.sandbox.id", request.GetPodSandboxId()))
	defer span.End(&err)
	v.ctx = ctx
	switch {
	case !wsstream.IsWebSocketRequest(v.r):
		err = s.forwardSPDY(v, request)
	default:
		err = upgrade(v, forwardProtocols, func(ws *websocket.Conn, speak dialect) {
			if speak.tunnel {
				err = s.forwardTunnel(v, request, ws)
				return
			}
			s.forwardWebSocket(v, request, ws, speak)
		})
	}
	if err != nil {
		s.log.DebugContext(ctx, "streaming session failed", "session", "cri.portforward", "id", request.GetPodSandboxId(), "error", err)
	}
}

// forwardSPDY serves any number of forwarded connections over one SPDY connection.
func (s *Server) forwardSPDY(v *visit, request *runtime.PortForwardRequest) error {
	if _, err := httpstream.Handshake(v.r, v.w, portforward.SupportedProtocols); err != nil {
		return err // the client was told
	}
	f := newForwarder(v.ctx, s, request.GetPodSandboxId())
	conn := spdy.NewResponseUpgrader().UpgradeResponse(v.w, v.r, f.offer)
	if conn == nil {
		return errors.New("the SPDY upgrade failed")
	}
	f.run(conn, v.conn)
	return nil
}

// forwardTunnel is forwardSPDY inside a WebSocket.
func (s *Server) forwardTunnel(v *visit, request *runtime.PortForwardRequest, ws *websocket.Conn) error {
	f := newForwarder(v.ctx, s, request.GetPodSandboxId())
	conn, err := spdy.NewServerConnection(ws, f.offer)
	if err != nil {
		return fmt.Errorf("open SPDY in a WebSocket: %w", err)
	}
	f.run(conn, v.conn)
	return nil
}

// forwarder serves pairs of streams: data, and the error that ended it. Clients
// tell pairs apart by a request ID.
type forwarder struct {
	server  *Server
	sandbox string
	ctx     context.Context
	cancel  context.CancelFunc

	mu     sync.Mutex // guards the rest
	conn   httpstream.Connection
	closed bool
	pairs  map[string]*pair
	open   sync.WaitGroup // pairs being served
}

// pair is one forwarded connection.
type pair struct {
	port        int32
	data, error httpstream.Stream
	replies     []<-chan struct{}
	serving     bool
	late        *time.Timer // refuses the pair while half of it is missing
}

func newForwarder(ctx context.Context, s *Server, sandbox string) *forwarder {
	f := &forwarder{server: s, sandbox: sandbox, pairs: map[string]*pair{}}
	f.ctx, f.cancel = context.WithCancel(ctx)
	return f
}

// run serves until the client closes conn, then ends every pair and waits for it.
func (f *forwarder) run(conn httpstream.Connection, under *clientConn) {
	f.mu.Lock()
	f.conn = conn
	f.mu.Unlock()
	endWith(conn, under)
	f.cancel()
	f.mu.Lock()
	f.closed = true
	for _, p := range f.pairs {
		p.late.Stop()
	}
	f.mu.Unlock()
	conn.Close()
	under.Close()
	f.open.Wait()
}

// offer takes a stream that the client opened, or refuses it. It never blocks: the
// connection's reader waits for it.
func (f *forwarder) offer(stream httpstream.Stream, replySent <-chan struct{}) error {
	headers := stream.Headers()
	port, err := strconv.ParseUint(headers.Get(portforward.PortHeader), 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("header %s is %.40q, not a port", portforward.PortHeader, headers.Get(portforward.PortHeader))
	}
	kind := headers.Get(portforward.StreamType)
	id := headers.Get(portforward.PortForwardRequestIDHeader)
	if id == "" { // clients before Kubernetes 1.2 open error, then data, and number neither
		id = strconv.FormatUint(uint64(stream.Identifier()), 10)
		if kind == portforward.StreamTypeData {
			id = strconv.FormatUint(uint64(stream.Identifier())-2, 10)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pairs[id]
	switch {
	case f.closed:
		return errClientGone
	case p == nil && len(f.pairs) >= maxForwards:
		return fmt.Errorf("all %d forwarded connections are in use", maxForwards)
	case p == nil:
		p = &pair{port: int32(port)}
		p.late = time.AfterFunc(f.server.config.CreationTimeout, func() { f.giveUp(id, p) })
		f.pairs[id] = p
	case p.port != int32(port):
		return fmt.Errorf("request %.40q asks for ports %d and %d", id, p.port, port)
	}
	switch {
	case kind == portforward.StreamTypeData && p.data == nil:
		p.data = stream
	case kind == portforward.StreamTypeError && p.error == nil:
		p.error = stream
	default:
		return fmt.Errorf("a stream of type %.40q is not expected in request %.40q", kind, id)
	}
	p.replies = append(p.replies, replySent)
	if p.data != nil && p.error != nil {
		p.late.Stop()
		p.serving = true
		f.open.Go(func() { f.serve(id, p) })
	}
	return nil
}

// giveUp drops a pair whose other half did not come.
func (f *forwarder) giveUp(id string, p *pair) {
	f.mu.Lock()
	dropped := !p.serving && !f.closed
	f.mu.Unlock()
	if !dropped {
		return
	}
	if p.error != nil {
		fmt.Fprintf(p.error, "the data stream did not come within %v", f.server.config.CreationTimeout)
	}
	f.drop(id, p)
}

// serve forwards one connection.
func (f *forwarder) serve(id string, p *pair) {
	defer f.drop(id, p)
	for _, sent := range p.replies {
		select {
		case <-sent:
		case <-f.ctx.Done():
			return
		}
	}
	if err := f.server.runtime.PortForward(f.ctx, f.sandbox, p.port, p.data); err != nil {
		p.error.Write([]byte(forwardError(f.sandbox, p.port, err)))
	}
}

// drop closes what is there of a pair and forgets it.
func (f *forwarder) drop(id string, p *pair) {
	f.mu.Lock()
	conn := f.conn
	delete(f.pairs, id)
	f.mu.Unlock()
	for _, stream := range []httpstream.Stream{p.data, p.error} {
		if stream == nil {
			continue
		}
		stream.Close()
		stream.Reset() // after Close it sends nothing, and lets a blocked reader go
		if conn != nil {
			conn.RemoveStreams(stream)
		}
	}
}

func forwardError(sandbox string, port int32, err error) string {
	return fmt.Sprintf("forward port %d to sandbox %s: %v", port, sandbox, err)
}

// forwardWebSocket forwards one connection per requested port: channel 2n carries
// the data of port n, channel 2n+1 its error; each starts with the port number.
func (s *Server) forwardWebSocket(v *visit, request *runtime.PortForwardRequest, ws *websocket.Conn, speak dialect) {
	ports := request.GetPort()
	ctx, cancel := context.WithCancel(v.ctx)
	defer cancel()
	wire := newChannels(ws, speak, 2*len(ports))
	inputs := make([]io.Reader, len(ports))
	for i := range ports {
		inputs[i] = wire.reader(2 * i)
	}
	end := wire.serve(v.conn)
	var forwards sync.WaitGroup
	for i, port := range ports {
		number := binary.LittleEndian.AppendUint16(nil, uint16(port))
		wire.send(byte(2*i), number)
		wire.send(byte(2*i+1), number)
		forwards.Go(func() {
			data := channelPair{inputs[i], wire.writer(byte(2 * i))}
			if err := s.runtime.PortForward(ctx, request.GetPodSandboxId(), port, data); err != nil {
				wire.send(byte(2*i+1), []byte(forwardError(request.GetPodSandboxId(), port, err)))
			}
		})
	}
	forwards.Wait()
	cancel()
	wire.close(v.conn)
	end.Wait()
}

// channelPair is both directions of a channel.
type channelPair struct {
	io.Reader
	io.Writer
}

// Close does nothing: this protocol cannot close one direction, and the session
// closes both.
func (channelPair) Close() error { return nil }
