package libct

import (
	"encoding/json"
	"io"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// warm does beside the wait for the request what every creation needs and what does not
// depend on it: package json learns the types of the specification, the configuration and the
// state, some hundred of them, which is half of the time that reading and writing those
// takes once. It keeps what it found. That ends by itself within milliseconds, and nobody
// waits for it: whoever needs the same meanwhile does it, or waits for its half.
func warm() {
	go func() {
		_ = json.Unmarshal([]byte("{}"), new(specs.Spec))
		_ = json.NewEncoder(io.Discard).Encode(&libcontainer.State{})
	}()
}
