package harness

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// LogRecord is one record of a CRI log file:
//
//	2026-11-20T10:00:00.000000001Z stdout F text\n
type LogRecord struct {
	Time    time.Time
	Stream  string
	Partial bool // tag P: the line goes on in the stream's next record
	Text    []byte
}

// maxLogRecord bounds what the parser accepts; a record is at most 16 KiB of text.
const maxLogRecord = 1 << 20

// ParseLog calls each for every record. It is as strict as the format: a record
// that is cut off, of an unknown stream or tag, or with a time that kubelet could
// not parse, is an error with its number. The text is valid only during the call.
func ParseLog(r io.Reader, each func(LogRecord) error) error {
	in := bufio.NewReaderSize(r, maxLogRecord)
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("log record %d: %w after %d bytes: %.80q", n, err, len(line), line)
		}
		rec, err := parseRecord(line[:len(line)-1])
		if err != nil {
			return fmt.Errorf("log record %d: %w: %.120q", n, err, line)
		}
		if err := each(rec); err != nil {
			return fmt.Errorf("log record %d: %w", n, err)
		}
	}
}

func parseRecord(line []byte) (rec LogRecord, err error) {
	stamp, rest, ok1 := bytes.Cut(line, []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tag, text, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || !ok3 {
		return rec, errors.New("fewer than four fields")
	}
	if rec.Time, err = time.Parse(time.RFC3339Nano, string(stamp)); err != nil {
		return rec, err
	}
	switch rec.Stream = string(stream); rec.Stream {
	case "stdout", "stderr":
	default:
		return rec, errors.New("unknown stream")
	}
	switch string(tag) {
	case "F":
	case "P":
		rec.Partial = true
	default:
		return rec, errors.New("unknown tag")
	}
	rec.Text = text
	return rec, nil
}

// Log is a container's output put together again.
type Log struct {
	Stdout, Stderr []byte // full lines end with \n; an unfinished last line does not
	Records        int
}

// ReadLog reads log files in the order given, oldest first, and joins the partial
// records, also over the border of two files. Times that go backwards within a
// stream are an error.
func ReadLog(paths ...string) (Log, error) {
	var out Log
	last := map[string]time.Time{}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return out, fmt.Errorf("read log: %w", err)
		}
		err = ParseLog(f, func(r LogRecord) error {
			if r.Time.Before(last[r.Stream]) {
				return fmt.Errorf("time of %s goes back from %v to %v", r.Stream, last[r.Stream], r.Time)
			}
			last[r.Stream] = r.Time
			into := &out.Stdout
			if r.Stream == "stderr" {
				into = &out.Stderr
			}
			*into = append(*into, r.Text...)
			if !r.Partial {
				*into = append(*into, '\n')
			}
			out.Records++
			return nil
		})
		f.Close()
		if err != nil {
			return out, fmt.Errorf("%s: %w", path, err)
		}
	}
	return out, nil
}

// AwaitLog returns when text stands in the log file at path.
func AwaitLog(ctx context.Context, path, text string) error {
	for deadline := time.Now().Add(Scale(30 * time.Second)); ; {
		raw, err := os.ReadFile(path)
		if err == nil && bytes.Contains(raw, []byte(text)) {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("no %q in log %s: %v: %.500s", text, path, err, raw)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
