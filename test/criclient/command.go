package criclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Transport is how bytes travel.
type Transport string

// The transports.
const (
	SPDY      Transport = "spdy"
	WebSocket Transport = "websocket"
)

// Size is a terminal's size in character cells.
type Size struct{ Width, Height uint16 }

// Streams are the client's ends of a session. They must be those that the gRPC
// request asked for; nil means not asked for.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// TTY must be as in the gRPC request. Resize delivers sizes until it is closed.
	TTY    bool
	Resize <-chan Size
}

// Run opens url, an answer of Exec or Attach, moves the streams until the server
// ends the session, and returns the exit code. ctx aborts the session by closing
// the connection. An error is what the server said instead of an exit code.
func Run(ctx context.Context, transport Transport, url string, streams Streams) (exit int32, err error) {
	switch transport {
	case SPDY:
		return runSPDY(ctx, url, streams)
	case WebSocket:
		return runWebSocket(ctx, url, streams, "v5.channel.k8s.io")
	}
	return 0, fmt.Errorf("unknown transport %q", transport)
}

// RunProtocol is Run over a WebSocket with one subprotocol of the caller's choice.
func RunProtocol(ctx context.Context, protocol, url string, streams Streams) (exit int32, err error) {
	return runWebSocket(ctx, url, streams, protocol)
}

// parseStatus reads the JSON that a session of protocol version 4 or later ends with.
func parseStatus(text []byte) (int32, error) {
	var status struct {
		Status, Message, Reason string
		Details                 struct {
			Causes []struct{ Reason, Message string }
		}
	}
	if err := json.Unmarshal(text, &status); err != nil {
		return 0, fmt.Errorf("parse session status %.200q: %w", text, err)
	}
	if status.Status == "Success" {
		return 0, nil
	}
	if status.Reason == "NonZeroExitCode" {
		for _, cause := range status.Details.Causes {
			if cause.Reason == "ExitCode" {
				code, err := strconv.ParseInt(cause.Message, 10, 32)
				return int32(code), err
			}
		}
	}
	return 0, errors.New(status.Message)
}
