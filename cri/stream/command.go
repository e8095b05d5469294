package stream

import (
	"context"
	"encoding/json"
	"io"

	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/net/websocket"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// wanted are the streams of a command's session.
type wanted struct{ stdin, stdout, stderr, tty bool }

// exec runs a command for a client.
func (s *Server) exec(v *visit) {
	request := v.grant.request.(*runtime.ExecRequest)
	want := wanted{request.GetStdin(), request.GetStdout(), request.GetStderr(), request.GetTty()}
	s.command(v, "cri.exec", request.GetContainerId(), want, func(ctx context.Context, streams lifecycle.Streams) (int32, error) {
		return s.runtime.Exec(ctx, request.GetContainerId(), lifecycle.ExecRequest{Cmd: request.GetCmd(), TTY: want.tty, Streams: streams})
	})
}

// attach joins a client to a container.
func (s *Server) attach(v *visit) {
	request := v.grant.request.(*runtime.AttachRequest)
	want := wanted{request.GetStdin(), request.GetStdout(), request.GetStderr(), request.GetTty()}
	s.command(v, "cri.attach", request.GetContainerId(), want, func(ctx context.Context, streams lifecycle.Streams) (int32, error) {
		return 0, s.runtime.Attach(ctx, request.GetContainerId(), lifecycle.AttachRequest{TTY: want.tty, Streams: streams})
	})
}

// command serves one exec or attach over whichever transport the client chose.
func (s *Server) command(v *visit, name, id string, want wanted, run func(context.Context, lifecycle.Streams) (int32, error)) {
	var err error
	ctx, span := telemetry.Start(v.ctx, name, attribute.String("container.id", id), attribute.Bool("vitrine.tty", want.tty))
	defer span.End(&err)
	v.ctx = ctx
	serve := s.commandSPDY
	if wsstream.IsWebSocketRequest(v.r) {
		serve = s.commandWebSocket
	}
	opened := serve(v, want, func(ctx context.Context, streams lifecycle.Streams) status {
		var code int32
		if code, err = run(ctx, streams); err != nil {
			return failed(err)
		}
		span.Set(attribute.Int("process.exit.code", int(code)))
		return exited(code)
	})
	if opened != nil {
		err = opened
	}
	if err != nil {
		s.log.DebugContext(ctx, "streaming session failed", "session", name, "id", id, "error", err)
	}
}

// maxSizeText bounds one terminal size on the wire, in bytes.
const maxSizeText = 1024

// decodeSizes turns the JSON objects of a resize stream into sizes until the stream
// or ctx ends, then closes sizes.
func decodeSizes(ctx context.Context, from io.Reader, sizes chan<- lifecycle.Size) {
	defer close(sizes)
	bounded := &io.LimitedReader{R: from}
	decoder := json.NewDecoder(bounded)
	for {
		bounded.N = maxSizeText
		var size lifecycle.Size
		if err := decoder.Decode(&size); err != nil {
			return
		}
		select {
		case sizes <- size:
		case <-ctx.Done():
			return
		}
	}
}

// commandProtocols are the WebSocket subprotocols of exec and attach.
var commandProtocols = map[string]dialect{
	"v5.channel.k8s.io":        {structured: true, halfClose: true},
	"v4.channel.k8s.io":        {structured: true},
	"v4.base64.channel.k8s.io": {structured: true, base64: true},
	"channel.k8s.io":           {},
	"base64.channel.k8s.io":    {base64: true},
	"":                         {},
}

// The channels of a command's WebSocket.
const (
	channelStdin = iota
	channelStdout
	channelStderr
	channelStatus
	channelResize
	commandChannels
)

// commandWebSocket serves a command over one WebSocket whose messages start with
// the number of their channel.
func (s *Server) commandWebSocket(v *visit, want wanted, run func(context.Context, lifecycle.Streams) status) error {
	return upgrade(v, commandProtocols, func(ws *websocket.Conn, speak dialect) {
		ctx, cancel := context.WithCancel(v.ctx)
		defer cancel()
		wire := newChannels(ws, speak, commandChannels)
		var streams lifecycle.Streams
		if want.stdin {
			streams.Stdin = wire.reader(channelStdin)
		}
		if want.stdout {
			streams.Stdout = wire.writer(channelStdout)
		}
		if want.stderr {
			streams.Stderr = wire.writer(channelStderr)
		}
		var resize io.Reader
		if want.tty {
			resize = wire.reader(channelResize)
		}
		end := wire.serve(v.conn)
		if want.tty {
			sizes := make(chan lifecycle.Size)
			streams.Resize = sizes
			end.Go(func() { decodeSizes(ctx, resize, sizes) })
		}
		// An empty message on the lowest open channel says that the session stands.
		hello := byte(channelStatus)
		switch {
		case want.stdout:
			hello = channelStdout
		case want.stderr:
			hello = channelStderr
		}
		wire.send(hello, nil)

		result := run(ctx, streams)
		cancel()
		if speak.structured {
			wire.send(channelStatus, result.structured())
		} else if text := result.plain(); text != nil {
			wire.send(channelStatus, text)
		}
		wire.close(v.conn)
		end.Wait()
	})
}
