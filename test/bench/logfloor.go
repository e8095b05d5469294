package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// floorLogs has cat do what a monitor cannot do without: the same programs write the same
// lines into pipes, and one cat each copies what comes into a file, as it is. A log has 141
// bytes for a line of 100; the time for those is not in the floor.
func floorLogs(ctx context.Context, o options, r *report) error {
	program, err := harness.Payload()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "logfloor")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	payload := filepath.Join(dir, "payload")
	if err := os.WriteFile(payload, program, 0o755); err != nil {
		return err
	}
	for _, turn := range logTurns {
		if err := floorOfLogs(ctx, o, r, turn, dir, payload); err != nil {
			return err
		}
	}
	return nil
}

func floorOfLogs(ctx context.Context, o options, r *report, turn logTurn, dir, payload string) (err error) {
	lines := o.logMiB << 20 / 100 / turn.writers
	var logs []string
	for i := range turn.writers {
		logs = append(logs, filepath.Join(dir, fmt.Sprintf("log%d", i)))
	}
	if err := o.prepare(turn, logs, lines); err != nil {
		return err
	}
	busy, err := cpuSeconds()
	if err != nil {
		return err
	}
	from := time.Now()
	var cats []*exec.Cmd
	var writers []*exec.Cmd
	for _, path := range logs {
		cat := exec.CommandContext(ctx, "cat")
		writer := exec.CommandContext(ctx, payload, "lines", strconv.Itoa(lines), "100")
		if e := pipeInto(writer, cat, path); e != nil {
			err = errors.Join(err, e)
			continue
		}
		writers, cats = append(writers, writer), append(cats, cat)
	}
	own := 0.0
	for i := range cats {
		err = errors.Join(err, writers[i].Wait(), cats[i].Wait())
		own += (cats[i].ProcessState.UserTime() + cats[i].ProcessState.SystemTime()).Seconds()
	}
	wall := time.Since(from).Seconds()
	after, e := cpuSeconds()
	if err = errors.Join(err, e); err != nil {
		return err
	}
	for _, path := range logs {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.Size() != int64(lines)*100 {
			return fmt.Errorf("%s has %d bytes, want %d", path, info.Size(), lines*100)
		}
		os.Remove(path)
	}
	addLogs(r, kernel, turn, float64(lines*100*turn.writers), wall, after-busy, own)
	return nil
}

// pipeInto starts both programs, the output of the one being the input of the other,
// whose output is the end of the file.
func pipeInto(writer, reader *exec.Cmd, path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	defer file.Close()
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	writer.Stdout, reader.Stdin, reader.Stdout = out, in, file
	err = reader.Start()
	if err == nil {
		if err = writer.Start(); err != nil {
			out.Close()
			return errors.Join(err, reader.Wait())
		}
	}
	return errors.Join(err, out.Close())
}
