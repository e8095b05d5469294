package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// prepare uses the memory that the turn's logs will take, unless that is left as it is, and
// makes them room if the turn wants it. Room comes second: fallocate(2) on tmpfs takes pages and
// leaves their first touch to who writes.
func (o options) prepare(turn logTurn, logs []string, lines int) error {
	if !o.coldMemory {
		if err := rehearse(filepath.Dir(logs[0]), int64(o.logMiB)<<20*3/2); err != nil { // a record has 141 bytes, of which the line has 100
			return err
		}
	}
	return turn.makeRoom(logs, lines)
}

// rehearse writes files of that size into the directory and removes them. On a virtual machine
// that reports free memory to its host, the first touch of a page is a fault of the host's, which
// takes longer than all that a monitor does with the page. What is given back last is handed out
// first, but only where it is asked for in pieces as large: ext4 takes pieces as large as the
// write is (large folios, Linux 6.16), tmpfs single pages. So there are two files, which exist at
// the same time.
func rehearse(dir string, size int64) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { // some runtimes make it at the start
		return err
	}
	for _, write := range []int{96 << 10, 4 << 10} {
		path := filepath.Join(dir, fmt.Sprintf("rehearsal%d", write))
		defer func() { err = errors.Join(err, ignoreMissing(os.Remove(path))) }()
		if err := fill(path, write, size); err != nil {
			return fmt.Errorf("rehearse a log of %d MiB: %w", size>>20, err)
		}
	}
	return nil
}

func fill(path string, write int, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	piece := make([]byte, write)
	for n := int64(0); n < size; n += int64(write) {
		if _, err := f.Write(piece); err != nil {
			return err
		}
	}
	return nil
}
