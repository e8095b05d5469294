// Package serve is the launchers' side of the contract in package launch, as far as all of them
// have it alike: wait until the request may be read, read it, answer it. It stands apart
// because the monitor links that package and must not link encoding/json.
package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/vitrine-runtime/vitrine/launch"
)

// ErrUnwanted: whoever wanted the launcher's work has gone or changed its mind.
var ErrUnwanted = errors.New("the request was given up before it was written")

// PassGate waits at launch.GateFD, which is open, until the request may be read, and closes it.
// End of file in the place of a byte is ErrUnwanted.
func PassGate() error {
	gate := os.NewFile(launch.GateFD, "gate")
	defer gate.Close()
	var open [1]byte
	if _, err := io.ReadFull(gate, open[:]); err == io.EOF {
		return ErrUnwanted
	} else if err != nil {
		return fmt.Errorf("wait for the request: %w", err)
	}
	return nil
}

// Request reads the request in the file at path.
func Request(path string) (request launch.Request, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return request, fmt.Errorf("read request: %w", err)
	}
	if err := json.Unmarshal(raw, &request); err != nil {
		return request, fmt.Errorf("parse request %s: %w", path, err)
	}
	return request, nil
}

// Refusal is the reply to a request that could not be read, with the cause.
func Refusal(cause error) launch.Reply {
	return launch.Reply{Error: &launch.Error{Step: "launch.request", Kind: launch.KindInvalid, Message: cause.Error()}}
}

// Answer writes the reply to launch.ReplyFD in one piece, which a pipe takes without blocking
// unless its reader is gone. The descriptor stays open.
func Answer(reply launch.Reply) error { return write(launch.ReplyFD, reply.Append(nil)) }

func write(fd int, text []byte) error {
	for len(text) > 0 {
		n, err := syscall.Write(fd, text)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}
