package criclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// Conn is an upgraded connection. Close says goodbye first, which waits for what is
// being written; Abort closes the socket.
type Conn struct {
	httpstream.Connection
	raw net.Conn
}

// Abort closes the socket under the connection.
func (c *Conn) Abort() { c.raw.Close() }

// DialSPDY upgrades url to a SPDY connection that speaks protocol. TLS certificates
// are not checked: the URL came over a trusted socket.
func DialSPDY(ctx context.Context, target, protocol string) (*Conn, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set(httpstream.HeaderProtocolVersion, protocol)
	request.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	request.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	dial := (&net.Dialer{}).DialContext
	if request.URL.Scheme == "https" {
		dial = (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext
	}
	raw, err := dial(ctx, "tcp", request.URL.Host)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewReader(raw)
	conn, err := upgrade(request, raw, buffered)
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("upgrade %s: %w", target, err)
	}
	return &Conn{conn, raw}, nil
}

func upgrade(request *http.Request, raw net.Conn, buffered *bufio.Reader) (httpstream.Connection, error) {
	if err := request.Write(raw); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(buffered, request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		return nil, fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	return spdy.NewClientConnection(&bufferedConn{raw, buffered})
}

// bufferedConn reads first what came together with the HTTP answer.
type bufferedConn struct {
	net.Conn
	buffered *bufio.Reader
}

// Read reads from the server.
func (c *bufferedConn) Read(p []byte) (int, error) { return c.buffered.Read(p) }

func runSPDY(ctx context.Context, target string, streams Streams) (int32, error) {
	conn, err := DialSPDY(ctx, target, remotecommand.StreamProtocolV4Name)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, conn.Abort)
	defer stop()
	open := func(kind string) (stream httpstream.Stream) {
		if err == nil {
			stream, err = conn.CreateStream(http.Header{remotecommand.StreamType: {kind}})
		}
		return stream
	}
	status := open(remotecommand.StreamTypeError)
	var stdin, stdout, stderr, resize httpstream.Stream
	if streams.Stdin != nil {
		stdin = open(remotecommand.StreamTypeStdin)
	}
	if streams.Stdout != nil {
		stdout = open(remotecommand.StreamTypeStdout)
	}
	if streams.Stderr != nil {
		stderr = open(remotecommand.StreamTypeStderr)
	}
	if streams.TTY {
		resize = open(remotecommand.StreamTypeResize)
	}
	if err != nil {
		return 0, fmt.Errorf("open session streams: %w", err)
	}
	if stdin != nil {
		go func() { // ends with the caller's reader
			io.Copy(struct{ io.Writer }{stdin}, struct{ io.Reader }{streams.Stdin}) // in pieces: a frame holds 16 MiB at most
			stdin.Close()
		}()
	}
	if resize != nil && streams.Resize != nil {
		go func() { // ends when the caller closes the channel
			for size := range streams.Resize {
				json.NewEncoder(resize).Encode(size)
			}
		}()
	}
	var output sync.WaitGroup
	if stdout != nil {
		output.Go(func() { io.Copy(streams.Stdout, stdout) })
	}
	if stderr != nil {
		output.Go(func() { io.Copy(streams.Stderr, stderr) })
	}
	text, err := io.ReadAll(status)
	if err != nil {
		return 0, fmt.Errorf("read session status: %w", err)
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if len(text) == 0 {
		return 0, fmt.Errorf("the connection ended without a session status")
	}
	output.Wait()
	return parseStatus(text)
}

// Forwarder is an open port-forward session.
type Forwarder struct {
	conn httpstream.Connection
	mu   sync.Mutex // guards next
	next int
}

// Forward opens url, an answer of PortForward. The caller closes the Forwarder.
func Forward(ctx context.Context, transport Transport, target string) (*Forwarder, error) {
	var conn httpstream.Connection
	var err error
	switch transport {
	case SPDY:
		conn, err = DialSPDY(ctx, target, portforward.ProtocolV1Name)
	case WebSocket:
		conn, err = dialTunnel(ctx, target)
	default:
		err = fmt.Errorf("unknown transport %q", transport)
	}
	if err != nil {
		return nil, err
	}
	return &Forwarder{conn: conn}, nil
}

// Forwarded is one connection to a port of the pod. Close closes the client's
// direction; the other one ends when the pod closes it.
type Forwarded struct {
	httpstream.Stream
	errors httpstream.Stream
}

// Dial connects to a port of the pod. The server answers at once; whether anyone
// listens in the pod is told by Err.
func (f *Forwarder) Dial(port int) (*Forwarded, error) {
	f.mu.Lock()
	f.next++
	id := fmt.Sprint(f.next)
	f.mu.Unlock()
	headers := func(kind string) http.Header {
		return http.Header{
			portforward.PortHeader: {fmt.Sprint(port)}, portforward.StreamType: {kind}, portforward.PortForwardRequestIDHeader: {id},
		}
	}
	failure, err := f.conn.CreateStream(headers(portforward.StreamTypeError))
	if err != nil {
		return nil, fmt.Errorf("open error stream for port %d: %w", port, err)
	}
	failure.Close() // nothing is said in this direction
	data, err := f.conn.CreateStream(headers(portforward.StreamTypeData))
	if err != nil {
		return nil, fmt.Errorf("open data stream for port %d: %w", port, err)
	}
	return &Forwarded{data, failure}, nil
}

// Err waits until the connection is over and returns what the server said about it.
func (c *Forwarded) Err() error {
	text, err := io.ReadAll(c.errors)
	if err == nil && len(text) > 0 {
		err = fmt.Errorf("%s", text)
	}
	return err
}

// Close ends the session and all its connections.
func (f *Forwarder) Close() error { return f.conn.Close() }

// PeerSerial is the serial number of the certificate that the server of an https
// URL shows; 0 when it shows none.
func PeerSerial(ctx context.Context, target string) int64 {
	at, err := url.Parse(target)
	if err != nil {
		return 0
	}
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", at.Host)
	if err != nil {
		return 0
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}
