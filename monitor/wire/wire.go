// Package wire is the language between the daemon and a container's monitor: the
// packets of the control socket, the configuration a monitor is born with, the exit
// record it leaves on disk, and its counters.
//
// A control connection is a unix SOCK_SEQPACKET socket: one packet is one Message,
// with the descriptors it speaks of attached (SCM_RIGHTS). Monitors outlive the
// daemon that started them and its upgrades, so a reader accepts every version from
// MinVersion to Version and skips fields that it does not know.
//
// The package is linked into every monitor: it imports nothing but errors, strconv
// and the launcher's contract, and holds no state.
package wire

import "errors"

// Version is what this build writes. MinVersion is the oldest it reads.
const (
	Version    = 1
	MinVersion = 1
)

// MaxPacket bounds one packet in bytes. Larger things travel as descriptors.
const MaxPacket = 64 << 10

// Files that a monitor keeps in its container's directory.
const (
	// CtlFile is the control socket, mode 0600.
	CtlFile = "ctl"
	// ExitFile is the exit record.
	ExitFile = "exit"
	// LogFile is the monitor's own stderr.
	LogFile = "monitor.log"
	// SpoolFile holds telemetry that could not be delivered yet.
	SpoolFile = "telemetry.spool"
	// LedgerFile is from what a monitor goes on whose predecessor was killed.
	LedgerFile = "ledger"
	// NotifyFile is the socket to which runtimes bring seccomp listeners, and
	// NotifiedFile what the container asked by them; see NotifiedTable.
	NotifyFile   = "notify"
	NotifiedFile = "notified"
)

// TrusteeArgument, behind a directory of its own, makes a monitor program a trustee.
const TrusteeArgument = "trustee"

// MaxWardID bounds the ID of a container whose descriptors a trustee holds, in bytes.
const MaxWardID = 64

// SocketFD is the descriptor of the first control connection in a new monitor.
const SocketFD = 3

// Descriptors that a monitor gets, beside SocketFD, to adopt a running container. Its
// last argument has a 1 or a 0 for each: the Go runtime opens files of its own before
// main, so that being open says nothing.
const (
	// AdoptPidfd is a pidfd of the container's init.
	AdoptPidfd = SocketFD + 1 + iota
	AdoptStdin
	AdoptStdout
	AdoptStderr
	AdoptVerdict
	// AdoptListeners is the first of at most MaxListeners.
	AdoptListeners
)

// MaxListeners bounds the seccomp listeners that a new monitor takes over.
const MaxListeners = 64

// ErrMalformed is returned for bytes that are not what they should be.
var ErrMalformed = errors.New("malformed message")

// ErrVersion is returned for a message of a version this build does not read.
var ErrVersion = errors.New("unknown protocol version")
