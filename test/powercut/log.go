package powercut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// SectorSize is the disk's and the log's.
const SectorSize = 512

// The log is that of the kernel's dm-log-writes, which QEMU writes, too: a super block,
// then entries, each a sector of header and the data. All numbers are little-endian.
//
//	super   magic u64, version u64, entries u64, sector size u32
//	entry   first sector u64, sectors u64, flags u64, data_len u64
//
// https://docs.kernel.org/admin-guide/device-mapper/log-writes.html
const (
	magic   = 0x6a736677736872
	version = 1

	flagFlush   = 1 << 0
	flagFUA     = 1 << 1
	flagDiscard = 1 << 2
)

// Write is one entry: a write, or a flush if Sectors is 0.
type Write struct {
	// Sector is the first of Sectors on the disk.
	Sector, Sectors uint64
	// Flush: all that was written before this entry is durable. FUA: this one is.
	Flush, FUA bool
	// at is where the data lies in the log.
	at int64
}

// Log is the writes of a disk in the order in which they were completed.
type Log struct {
	Writes []Write
	data   io.ReaderAt
}

// ReadLog reads the entries; their data stays in r. An entry beyond the disk's size, in
// bytes, is an error.
func ReadLog(r io.ReaderAt, size int64) (*Log, error) {
	var super [28]byte
	if _, err := r.ReadAt(super[:], 0); err != nil {
		return nil, fmt.Errorf("read log of writes: %w", err)
	}
	word := func(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	if word(super[:], 0) != magic || word(super[:], 1) != version || binary.LittleEndian.Uint32(super[24:]) != SectorSize {
		return nil, errors.New("read log of writes: it is not one of version 1 with sectors of 512 bytes")
	}
	log := &Log{data: r}
	at := int64(SectorSize)
	for range word(super[:], 2) {
		var head [32]byte
		if _, err := r.ReadAt(head[:], at); err != nil {
			return nil, fmt.Errorf("read entry %d of the log of writes: %w", len(log.Writes), err)
		}
		at += SectorSize
		flags := word(head[:], 2)
		w := Write{Sector: word(head[:], 0), Sectors: word(head[:], 1), Flush: flags&flagFlush != 0, FUA: flags&flagFUA != 0, at: at}
		if limit := uint64(size / SectorSize); w.Sector > limit || w.Sectors > limit-w.Sector {
			return nil, fmt.Errorf("entry %d of the log writes %d sectors at %d of a disk of %d", len(log.Writes), w.Sectors, w.Sector, limit)
		}
		if flags&flagDiscard != 0 { // has no data, and a disk may ignore it
			w.Sectors = 0
		}
		at += int64(w.Sectors) * SectorSize
		log.Writes = append(log.Writes, w)
	}
	return log, nil
}

// Data is what a write wrote.
func (l *Log) Data(w Write) ([]byte, error) {
	raw := make([]byte, w.Sectors*SectorSize)
	if _, err := l.data.ReadAt(raw, w.at); err != nil {
		return nil, fmt.Errorf("read data of the log of writes: %w", err)
	}
	return raw, nil
}

// MostUnflushed is the number of entries, of those from from to to, after which a power
// cut can lose most writes.
func (l *Log) MostUnflushed(from, to int) int {
	best, most, pending := from, -1, 0
	for n, w := range append(l.Writes[:to:to], Write{Flush: true}) {
		if n >= from && pending > most { // after n entries
			best, most = n, pending
		}
		if w.Sectors > 0 {
			pending++
		}
		if w.Flush {
			pending = 0
		}
	}
	return best
}

// Cut makes disk, a copy of the disk before the log began, into the one of a power cut
// after the first n entries. Sectors from the marks' on always arrive: they are the
// test's own notes. It says how many of the writes that were not flushed were lost,
// wholly or in part.
func (l *Log) Cut(disk io.WriterAt, n int, marks uint64, chance *rand.Rand) (lost int, err error) {
	durable := 0
	for i, w := range l.Writes[:n] {
		if w.Flush {
			durable = i
		}
	}
	for i, w := range l.Writes[:n] {
		if w.Sectors == 0 {
			continue
		}
		raw, err := l.Data(w)
		if err != nil {
			return lost, err
		}
		if i >= durable && !w.FUA && w.Sector < marks {
			keep := len(raw)
			switch chance.IntN(8) {
			case 0, 1, 2:
				keep = 0
			case 3:
				keep = chance.IntN(int(w.Sectors)) * SectorSize
			}
			if keep < len(raw) {
				lost++
			}
			raw = raw[:keep]
		}
		if _, err := disk.WriteAt(raw, int64(w.Sector)*SectorSize); err != nil {
			return lost, fmt.Errorf("make the disk of a power cut: %w", err)
		}
	}
	return lost, nil
}
