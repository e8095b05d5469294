package spec

import (
	"fmt"
	"strconv"

	"github.com/vitrine-runtime/vitrine/pod"
)

// ObserveOptions are what is noted of a container's system calls: the administrator's
// defaults, and by annotation a pod's own. Each of them costs every process of the host
// at each system call as long as one container has it, and at most 16 containers can
// have any.
type ObserveOptions struct {
	// Syscalls is "counts" for how often each system call was made and failed, "latency"
	// for how long one in 64 took as well; "none" or empty means neither.
	Syscalls string `toml:"syscalls"`
	// Denials puts also what system calls were refused, by seccomp's errors, file systems
	// and permissions, into the ledger that vitrine denials shows.
	Denials bool `toml:"denials"`
	// Learn notes what a seccomp profile needs, from the first system call on: vitrine
	// seccomp profile shows it.
	Learn bool `toml:"learn"`
	// Flight keeps the last 256 system calls and puts them on record when the container
	// ends with an error: vitrine flight shows them.
	Flight bool `toml:"flight"`
	// Accept times the first accept of the container's start; it is not watched after that.
	Accept bool `toml:"accept"`
}

// Any says whether there is anything to note.
func (o ObserveOptions) Any() bool {
	return o.Counts() || o.Denials || o.Learn || o.Flight || o.Accept
}

// Counts says whether system calls are counted for their own sake.
func (o ObserveOptions) Counts() bool { return o.Syscalls != "" && o.Syscalls != "none" }

// Latency says whether they are timed.
func (o ObserveOptions) Latency() bool { return o.Syscalls == "latency" }

// observeAnnotation is the prefix of annotations about what is noted. Behind the key, a
// slash and a container's name address that container of the pod alone:
//
//	io.vitrine.syscalls: counts
//	io.vitrine.denials: "true"
//	io.vitrine.learn/app: "true"
//	io.vitrine.flight: "true"
//	io.vitrine.accept: "true"
const observeAnnotation = "io.vitrine."

// Observe lays the annotations that allowed names (see Defaults.Annotations) over the
// defaults. The container's own goes before the pod's. A value that cannot be is
// ErrInvalid, naming the annotation.
func Observe(o ObserveOptions, allowed []string, container string, sources ...map[string]string) (ObserveOptions, error) {
	if err := observeSettings.lay(&o, observeAnnotation, allowed, container, sources); err != nil {
		return o, err
	}
	return o, o.Check()
}

// Check refuses what nobody knows.
func (o ObserveOptions) Check() error {
	switch o.Syscalls {
	case "", "none", "counts", "latency":
		return nil
	}
	return fmt.Errorf("%w: syscalls %q is none of none, counts and latency", pod.ErrInvalid, o.Syscalls)
}

var observeSettings = settings[ObserveOptions]{
	"syscalls": func(o *ObserveOptions, v string) error { o.Syscalls = v; return o.Check() },
	"denials":  func(o *ObserveOptions, v string) error { return truth(&o.Denials, v) },
	"learn":    func(o *ObserveOptions, v string) error { return truth(&o.Learn, v) },
	"flight":   func(o *ObserveOptions, v string) error { return truth(&o.Flight, v) },
	"accept":   func(o *ObserveOptions, v string) error { return truth(&o.Accept, v) },
}

func truth(into *bool, text string) (err error) {
	if *into, err = strconv.ParseBool(text); err != nil {
		return fmt.Errorf("%q is neither true nor false", text)
	}
	return nil
}
