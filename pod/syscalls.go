package pod

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Syscalls are the system calls that a container made, as far as they were counted.
type Syscalls struct {
	// From and To are the time that they were counted in. Whole: from PID 1's first call
	// on, so none before From is missing.
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Whole bool      `json:"whole,omitempty"`
	// Learned: it is told which of them seccomp answered, so that a profile can be made.
	Learned bool `json:"learned,omitempty"`
	// Calls are those made most often first, at most one for each number.
	Calls []Syscall `json:"calls"`
}

// Syscall is how one of them was used.
type Syscall struct {
	// Number is this machine's; Name is that of seccomp profiles, "other" for what has none.
	Number int    `json:"number"`
	Name   string `json:"name"`
	Calls  uint64 `json:"calls"`
	Errors uint64 `json:"errors"`
	// Refused of the calls were answered by seccomp, the last with the errno Answer.
	Refused uint64 `json:"refused,omitempty"`
	Answer  int    `json:"answer,omitempty"`
	// Samples of the calls were timed. Half of these took at most P50, and so on, rounded
	// up to a power of 2 nanoseconds. Buckets[i] of them took 2^i up to 2^(i+1) nanoseconds.
	Samples uint64        `json:"samples,omitempty"`
	P50     time.Duration `json:"p50,omitempty"`
	P90     time.Duration `json:"p90,omitempty"`
	P99     time.Duration `json:"p99,omitempty"`
	Buckets []uint64      `json:"buckets,omitempty"`
}

// Flight is what a container called last before its end.
type Flight struct {
	// Calls are in the order of their ends, at most the last 256; Missed came before them.
	Calls  []Call `json:"calls"`
	Missed uint64 `json:"missed,omitempty"`
}

// Call is one system call.
type Call struct {
	// At is when it returned, or its thread ended in it.
	At time.Time `json:"at"`
	// TID is the thread's number on the host.
	TID     int    `json:"tid"`
	Command string `json:"command"`
	Name    string `json:"name"`
	// Arguments are the first three as they were at the end of the call; none for a call
	// that never returned (Unfinished).
	Arguments  []Word `json:"arguments,omitempty"`
	Result     int64  `json:"result"`
	Error      string `json:"error,omitempty"`
	Unfinished bool   `json:"unfinished,omitempty"`
}

// String is how a debugger would write it.
func (c Call) String() string {
	if c.Unfinished {
		return c.Name + "() never returned"
	}
	arguments := make([]string, len(c.Arguments))
	for i, a := range c.Arguments {
		arguments[i] = a.String()
	}
	result := strconv.FormatInt(c.Result, 10)
	if c.Error != "" {
		result = "-1 " + c.Error
	}
	return fmt.Sprintf("%s(%s) = %s", c.Name, strings.Join(arguments, ", "), result)
}

// Word is a register's content; in JSON a text in hexadecimal, since not every reader of
// JSON has 64 bits for a number.
type Word uint64

func (w Word) String() string { return "0x" + strconv.FormatUint(uint64(w), 16) }

// MarshalText writes 0x and hexadecimal digits.
func (w Word) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (w *Word) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 0, 64)
	*w = Word(n)
	return err
}
