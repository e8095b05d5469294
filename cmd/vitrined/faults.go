package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// faultsVariable names steps at which a test wants the daemon to be slow or to die:
//
//	VITRINE_FAULTS=image.rootfs.mount=sleep(300ms);lifecycle.ready=kill(3)
//
// Every span's name is such a step; the fault strikes right after the span began.
// sleep(D) strikes each time; kill(N) sends the daemon SIGKILL when the step begins
// for the Nth time; fail(N) makes the step fail that time. The variable is for tests of the daemon's own steadiness.
const faultsVariable = "VITRINE_FAULTS"

// fault is what happens at one step.
type fault struct {
	sleep time.Duration
	kill  int64
	fail  int64
	seen  atomic.Int64
}

// faults returns what telemetry calls at the start of each span, nil without the
// variable.
func faults() (func(name string) error, error) {
	text := os.Getenv(faultsVariable)
	if text == "" {
		return nil, nil
	}
	table := map[string]*fault{}
	for _, entry := range strings.Split(text, ";") {
		name, action, _ := strings.Cut(entry, "=")
		verb, rest, _ := strings.Cut(action, "(")
		argument, closed := strings.CutSuffix(rest, ")")
		f := &fault{}
		var err error
		switch verb {
		case "sleep":
			f.sleep, err = time.ParseDuration(argument)
		case "kill":
			f.kill, err = strconv.ParseInt(argument, 10, 32)
		case "fail":
			f.fail, err = strconv.ParseInt(argument, 10, 32)
		default:
			closed = false
		}
		if err != nil || !closed {
			return nil, fmt.Errorf("%s: %q is not STEP=sleep(DURATION), STEP=kill(COUNT) or STEP=fail(COUNT)", faultsVariable, entry)
		}
		table[name] = f
	}
	slog.Warn("faults are injected", "faults", text)
	return func(name string) error {
		f := table[name]
		if f == nil {
			return nil
		}
		time.Sleep(f.sleep)
		switch f.seen.Add(1) {
		case f.kill:
			unix.Kill(os.Getpid(), unix.SIGKILL)
		case f.fail:
			return errors.New("a fault was injected")
		}
		return nil
	}, nil
}
