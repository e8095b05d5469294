package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// logPrinter prints files in the CRI's log format, "TIME STREAM TAG TEXT", where a line
// of tag P goes on in the next of its stream. What was written to standard error goes
// there. It is not safe for concurrent use.
type logPrinter struct {
	stdout, stderr io.Writer
	timestamps     bool
	json           bool

	file *os.File // the newest one; nil before files
	rest []byte   // of a line whose end is not written yet
	open [2]bool  // streams whose last line was a part
}

// followEvery is how often a log is looked at for more, endedEvery how often the daemon
// is asked whether more will come.
const (
	followEvery = 100 * time.Millisecond
	endedEvery  = time.Second
)

// rotated are the files that a log was rotated to, the oldest first: kubelet puts the
// time behind the name, and ".gz" behind that of a compressed one.
func rotated(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("find the log: %w", err)
	}
	var files []string
	for _, e := range entries {
		stamp, ours := strings.CutPrefix(e.Name(), filepath.Base(path)+".")
		if stamp = strings.TrimSuffix(stamp, ".gz"); ours && stamp != "" && strings.Trim(stamp, "0123456789-") == "" {
			files = append(files, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	slices.Sort(files)
	return files, nil
}

// files prints what there is: all of it, or the last tail lines if tail is not negative.
// The newest file stays open for follow; fs.ErrNotExist if there is none at all.
func (p *logPrinter) files(path string, tail int) error {
	old, err := rotated(path)
	if err != nil {
		return err
	}
	if p.file, err = os.Open(path); err != nil && len(old) == 0 {
		return fmt.Errorf("open the log: %w", err)
	}
	var last [][]byte // the last tail lines
	take := func(line []byte) error {
		if tail < 0 {
			return p.line(line)
		}
		if last = append(last, bytes.Clone(line)); len(last) > tail {
			last = last[1:]
		}
		return nil
	}
	for _, name := range old {
		if err := whole(name, take); err != nil {
			return err
		}
	}
	if p.file != nil {
		if err := p.drain(take); err != nil {
			return err
		}
	}
	for _, line := range last {
		if err := p.line(line); err != nil {
			return err
		}
	}
	return nil
}

// whole reads a rotated file.
func whole(name string, take func([]byte) error) error {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil // removed just now, as the oldest is
	}
	if err != nil {
		return fmt.Errorf("open a rotated log: %w", err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(f)
		if err != nil {
			return fmt.Errorf("read the rotated log %s: %w", name, err)
		}
		r = z
	}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			if err := take(line); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the rotated log %s: %w", name, err)
		}
	}
}

// drain reads what has been written to the newest file since; a line whose end is
// missing waits for it.
func (p *logPrinter) drain(take func([]byte) error) error {
	buffer := make([]byte, 64<<10)
	for {
		n, err := p.file.Read(buffer)
		p.rest = append(p.rest, buffer[:n]...)
		for {
			line, after, whole := bytes.Cut(p.rest, []byte("\n"))
			if !whole {
				break
			}
			if err := take(append(bytes.Clone(line), '\n')); err != nil {
				return err
			}
			p.rest = after
		}
		if err == io.EOF || n == 0 && err == nil {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
	}
}

// follow prints what is written until the container has ended and all of it is printed.
// A file that takes the place of the open one is gone on with when that is read.
func (p *logPrinter) follow(ctx context.Context, path string, ended func() bool) error {
	asked := time.Now()
	for {
		done := false
		if time.Since(asked) >= endedEvery {
			done, asked = ended(), time.Now()
		}
		renewed, err := p.renewed(path)
		if err != nil {
			return err
		}
		if p.file != nil {
			if err := p.drain(p.line); err != nil {
				return err
			}
		}
		switch {
		case renewed != nil:
			p.close()
			p.file = renewed
			continue
		case done: // asked before the last look, so nothing came after it
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followEvery):
		}
	}
}

// renewed opens path if it is no longer the open file; nil if it is, or is not there.
func (p *logPrinter) renewed(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	now, err := f.Stat()
	if err == nil && p.file != nil {
		if was, werr := p.file.Stat(); werr == nil && os.SameFile(was, now) {
			return nil, f.Close()
		}
	}
	return f, err
}

func (p *logPrinter) close() error {
	if p.file == nil {
		return nil
	}
	file := p.file
	p.file = nil
	return file.Close()
}

// line prints one line of a file; one that is not in the format is printed as it is.
func (p *logPrinter) line(line []byte) error {
	parts := bytes.SplitN(line, []byte(" "), 4)
	if len(parts) < 4 {
		_, err := p.stdout.Write(line)
		return err
	}
	at, stream, tag, text := string(parts[0]), string(parts[1]), string(parts[2]), parts[3]
	out, i := p.stdout, 0
	if stream == "stderr" {
		out, i = p.stderr, 1
	}
	partial := tag == "P" || strings.HasPrefix(tag, "P:")
	if p.json {
		return json.NewEncoder(p.stdout).Encode(struct {
			Time    string `json:"time"`
			Stream  string `json:"stream"`
			Partial bool   `json:"partial,omitempty"`
			Text    string `json:"text"`
		}{at, stream, partial, strings.TrimSuffix(string(text), "\n")})
	}
	if partial {
		text = bytes.TrimSuffix(text, []byte("\n"))
	}
	if p.timestamps && !p.open[i] {
		text = append([]byte(at+" "), text...)
	}
	p.open[i] = partial
	_, err := out.Write(text)
	return err
}
