package wire

import (
	"strconv"
	"strings"
)

// Exit is the exit record: how the container's init ended. Times are nanoseconds,
// moments since 1970; sizes are bytes.
type Exit struct {
	PID int
	// Status is the raw status of wait(2).
	Status uint32
	// StartedAt is when the user's program was executed, 0 when it never was.
	StartedAt int64
	// ExitedAt is when the init was reaped.
	ExitedAt int64
	// UserTime and SystemTime are those of the init and the children it waited for.
	UserTime, SystemTime int64
	MaxRSS               int64
	// LogBytes, LogLines and LogDropped are counted up to the moment of the record.
	LogBytes, LogLines, LogDropped int64
	// LogLimited is what the streams' limits left out; LogErrno is the last error of
	// writing the log, 0 for none.
	LogLimited, LogErrno int64
	// LogStalls is how often the log's file system did not answer, LogStalledMillis for
	// how long together, in milliseconds.
	LogStalls, LogStalledMillis int64
	// StartError is why the user's program was not executed, one line.
	StartError string
	// Source is whence Status is known when the monitor was not the init's parent:
	// SourcePidfd, SourceTracepoint or SourceUnknown; empty when it was.
	Source string
}

// Signal is the terminating signal, 0 when the process called exit.
func (e Exit) Signal() int {
	if s := e.Status & 0x7f; s != 0x7f {
		return int(s)
	}
	return 0
}

// Code is the exit code, or 128 + the signal.
func (e Exit) Code() int32 {
	if s := e.Signal(); s != 0 {
		return 128 + int32(s)
	}
	return int32(e.Status >> 8 & 0xff)
}

// CoreDumped reports whether the kernel wrote a core.
func (e Exit) CoreDumped() bool { return e.Signal() != 0 && e.Status&0x80 != 0 }

// Sources of a status.
const (
	SourcePidfd      = "pidfd"
	SourceTracepoint = "tracepoint"
	SourceUnknown    = "unknown" // Status means nothing
)

const exitMagic = "vitrine-exit 1 "

// MaxExit bounds an exit record in bytes.
const MaxExit = 4096

func (e *Exit) numbers() [12]*int64 {
	return [...]*int64{&e.StartedAt, &e.ExitedAt, &e.UserTime, &e.SystemTime, &e.MaxRSS, &e.LogBytes, &e.LogLines, &e.LogDropped, &e.LogLimited, &e.LogErrno, &e.LogStalls, &e.LogStalledMillis}
}

var exitKeys = [...]string{"started", "exited", "user", "system", "maxrss", "logbytes", "loglines", "logdropped", "loglimited", "logerrno", "logstalls", "logstalled"}

// Append encodes the record behind buf:
//
//	vitrine-exit 1 CRC32C LENGTH\n
//	KEY VALUE\n …
//
// CRC32C (eight hexadecimal digits) and LENGTH are of the lines after the first.
func (e Exit) Append(buf []byte) []byte {
	body := make([]byte, 0, 512)
	line := func(key string, v int64) {
		body = append(append(body, key...), ' ')
		body = append(strconv.AppendInt(body, v, 10), '\n')
	}
	line("pid", int64(e.PID))
	line("status", int64(e.Status))
	for i, v := range e.numbers() {
		line(exitKeys[i], *v)
	}
	if e.Source != "" {
		body = append(append(append(body, "source "...), e.Source...), '\n')
	}
	if e.StartError != "" {
		text := strings.ReplaceAll(e.StartError[:min(len(e.StartError), 2048)], "\n", " ")
		body = append(append(append(body, "starterror "...), text...), '\n')
	}
	sum := strconv.AppendUint(nil, uint64(CRC(body))|1<<32, 16)
	buf = append(append(buf, exitMagic...), sum[1:]...)
	buf = append(strconv.AppendInt(append(buf, ' '), int64(len(body)), 10), '\n')
	return append(buf, body...)
}

// ParseExit is the inverse of Append. Unknown keys are skipped.
func ParseExit(record string) (Exit, error) {
	var e Exit
	header, body, found := strings.Cut(record, "\n")
	rest, known := strings.CutPrefix(header, exitMagic)
	sumText, lengthText, cut := strings.Cut(rest, " ")
	if !found || len(record) > MaxExit || !known || !cut {
		return e, ErrMalformed
	}
	sum, err1 := strconv.ParseUint(sumText, 16, 32)
	length, err2 := strconv.Atoi(lengthText)
	if err1 != nil || err2 != nil || length != len(body) || CRC([]byte(body)) != uint32(sum) {
		return e, ErrMalformed
	}
	for body != "" {
		line, next, whole := strings.Cut(body, "\n")
		key, value, _ := strings.Cut(line, " ")
		if !whole || !e.set(key, value) {
			return Exit{}, ErrMalformed
		}
		body = next
	}
	return e, nil
}

func (e *Exit) set(key, value string) bool {
	switch key {
	case "starterror":
		e.StartError = value
		return true
	case "source":
		e.Source = value
		return true
	}
	n, err := strconv.ParseInt(value, 10, 64)
	switch key {
	case "pid":
		e.PID = int(n)
		return err == nil && n > 0 && n < 1<<31
	case "status":
		e.Status = uint32(n)
		return err == nil && n >= 0 && n < 1<<32
	}
	for i, v := range e.numbers() {
		if exitKeys[i] == key {
			*v = n
			return err == nil
		}
	}
	return true
}

// CRC is the CRC-32C of data, computed without a table: records are small and a
// table would stand in every monitor's memory.
func CRC(data []byte) uint32 {
	crc := ^uint32(0)
	for _, b := range data {
		crc ^= uint32(b)
		for range 8 {
			crc = crc>>1 ^ 0x82f63b78&-(crc&1)
		}
	}
	return ^crc
}
