package libct

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	_ "github.com/opencontainers/cgroups/devices" // without it every start fails for want of device rules

	"github.com/vitrine-runtime/vitrine/launch"
)

// A job is one request on its way.
type job struct {
	request   launch.Request
	line      *timeline
	container *specs.Spec // what is to be created, when it has been read
	way       string      // launch.Reply.Way
	bare      bool        // launch.Request.Bare can be entered
	failed    string      // the step in which libcontainer failed to start something
}

// Times are when the process was forked, or a spare was told of its container; reached main
// (zero for a spare), had waited for its request (zero without a gate) and had read it.
type Times struct{ Born, Main, Waited, Read time.Time }

// Run does what request asks and answers. The steps of the answer cover the time since
// the process was forked. It changes process-wide state
// (working directory, environment, logger) and is for one call per process.
func Run(request launch.Request, at Times) launch.Reply {
	j := &job{request: request, line: newTimeline(at.Born)}
	if !at.Main.IsZero() {
		j.line.endAt("launch.init", at.Main.UnixNano())
	}
	if !at.Waited.IsZero() {
		j.line.endAt(launch.StepWait, at.Waited.UnixNano())
	}
	j.line.endAt("launch.request", at.Read.UnixNano())
	j.line.listen()

	run := j.runNative
	if request.Runtime.Path != "" {
		run = j.runExternal
	}
	reply, err := run()
	if err != nil {
		reply = launch.Reply{Error: j.fault(err)}
	}
	reply.Way = j.way
	j.line.end("launch.reply")
	reply.Steps = j.line.taken()
	return reply
}

// runNative does the request with libcontainer.
func (j *job) runNative() (reply launch.Reply, err error) {
	switch j.request.Op {
	case launch.OpCreate:
		reply.PID, err = j.create()
	case launch.OpExec:
		reply.PID, err = j.exec()
	case launch.OpDelete:
		err = j.remove()
	case launch.OpFeatures:
		reply.Features, err = j.features()
	case launch.OpCheckpoint:
		err = j.checkpoint()
	case launch.OpRestore:
		reply.PID, err = j.restore()
	case launch.OpStart:
		if j.request.Criu != nil {
			reply.PID, err = j.resume()
			break
		}
		err = invalid("launch.request", errors.New("a native container is started through its exec fifo"))
	default:
		err = invalid("launch.request", fmt.Errorf("unknown operation %q", j.request.Op))
	}
	return reply, err
}

// maxDocument bounds the specifications that are read, in bytes.
const maxDocument = 16 << 20

// spec reads Bundle/config.json.
func (j *job) spec() (*specs.Spec, error) {
	path := filepath.Join(j.request.Bundle, "config.json")
	raw, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("read specification: %w", err)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(raw, spec); err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	if err := checkSpec(spec); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	j.container = spec
	return spec, nil
}

// checkSpec refuses what libcontainer would trip over.
func checkSpec(spec *specs.Spec) error {
	switch {
	case spec.Process == nil:
		return errors.New("process is missing")
	case spec.Root == nil || spec.Root.Path == "":
		return errors.New("root is missing")
	case spec.Linux == nil:
		return errors.New("linux is missing")
	}
	return checkProcess(spec.Process)
}

// readBounded reads a file of at most maxDocument bytes.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxDocument {
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", path, info.Size(), maxDocument)
	}
	return os.ReadFile(path)
}
