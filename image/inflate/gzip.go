// Package inflate decompresses gzip (RFC 1952, RFC 1951). Layers of images spend most of
// the processor's time of a pull there, and the libraries that can be had in Go take about
// twice as long (docs/decisions/0145): bits are taken in by the word, codes of up to 11
// bits are found by one look into a table, and matches are copied by the word.
//
// It accepts what compress/gzip accepts, and refuses what that refuses: several members
// after each other are one stream, checksums and sizes are verified. It uses no unsafe
// code: whatever the stream says, nothing outside the buffer is touched.
package inflate

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// errCorrupt: the stream is none, or is damaged.
var errCorrupt = errors.New("gzip: stream is damaged")

const (
	window     = 32 << 10 // how far back a match may reach
	bufferSize = 256 << 10
)

// maxText bounds the name and the comment in a member's head, with the zero behind them.
const maxText = 512

// state is what comes next in the stream.
type state int

// memberHead ─► blockHead ─► coded ──┬─► memberEnd ─► memberHead
//
//	▲ └────► stored ─┤
//	└────────────────┘
const (
	memberHead state = iota
	blockHead
	coded
	stored
	memberEnd
)

// Reader is a stream at work; make it by NewReader. It is some 300 KiB large, and all its
// memory. It is not safe for concurrent use.
type Reader struct {
	next  func() ([]byte, error)
	in    []byte // what is left of the last piece
	hold  uint64 // bits taken in, the next one lowest
	held  uint   // how many they are
	ended error  // of the source, met while fill looked ahead
	err   error  // returned for good

	state    state
	final    bool // the block is its member's last
	left     int  // bytes of a stored block
	tables   *tables
	own      tables
	checksum uint32 // of the member's bytes up to read
	size     uint32

	// What is decompressed lies in buffer[:written]: what read has not passed is still to
	// be returned, what is before it is what matches reach back to.
	read, written int
	buffer        [bufferSize]byte
}

// NewReader reads a stream from the pieces that next returns, in order; each is used up
// before the next call and not changed. next returns io.EOF after the last.
func NewReader(next func() ([]byte, error)) *Reader { return &Reader{next: next} }

// Read implements io.Reader. Errors of the source are returned as they are, but for
// io.EOF in the midst of the stream, which is io.ErrUnexpectedEOF.
func (r *Reader) Read(p []byte) (int, error) {
	for r.read == r.written && r.err == nil {
		r.err = r.step()
	}
	// What was decompressed before an error is returned first.
	n := copy(p, r.buffer[r.read:r.written])
	if n > 0 || len(p) == 0 {
		r.read += n
		return n, nil
	}
	return 0, r.err
}

// step decompresses a bufferful, or the rest of a block, or reads a head.
func (r *Reader) step() error {
	if r.written > bufferSize-quickOut {
		r.written = copy(r.buffer[:], r.buffer[r.written-window:r.written])
		r.read = r.written
	}
	from := r.written
	var err error
	switch r.state {
	case memberHead:
		return r.readHead()
	case blockHead:
		return r.beginBlock()
	case memberEnd:
		return r.readEnd()
	case coded:
		err = r.decode()
	case stored:
		err = r.copyStored()
	}
	r.checksum = crc32.Update(r.checksum, crc32.IEEETable, r.buffer[from:r.written])
	r.size += uint32(r.written - from)
	return err
}

// readEnd compares what a member should have been.
func (r *Reader) readEnd() error {
	r.align()
	checksum, err := r.bits(32)
	if err != nil {
		return err
	}
	size, err := r.bits(32)
	if err != nil {
		return err
	}
	if uint32(checksum) != r.checksum || uint32(size) != r.size {
		return errCorrupt
	}
	r.state = memberHead
	return nil
}

// readHead reads a member's head (RFC 1952, 2.3); io.EOF when there is no further member.
func (r *Reader) readHead() error {
	if r.fill(8); r.held == 0 {
		return r.ended
	}
	var head [10]byte
	for i := range head {
		b, err := r.bits(8)
		if err != nil {
			return err
		}
		head[i] = byte(b)
	}
	if head[0] != 0x1f || head[1] != 0x8b || head[2] != 8 {
		return errCorrupt
	}
	sum := crc32.ChecksumIEEE(head[:])
	one := func() (byte, error) {
		b, err := r.bits(8)
		sum = crc32.Update(sum, crc32.IEEETable, []byte{byte(b)})
		return byte(b), err
	}
	text := func() error {
		for range maxText {
			if b, err := one(); err != nil || b == 0 {
				return err
			}
		}
		return errCorrupt
	}
	const hasSum, hasExtra, hasName, hasComment = 2, 4, 8, 16
	if head[3]&hasExtra != 0 {
		var size [2]byte
		for i := range size {
			b, err := one()
			if err != nil {
				return err
			}
			size[i] = b
		}
		for range binary.LittleEndian.Uint16(size[:]) {
			if _, err := one(); err != nil {
				return err
			}
		}
	}
	for _, has := range []byte{hasName, hasComment} {
		if head[3]&has != 0 {
			if err := text(); err != nil {
				return err
			}
		}
	}
	if head[3]&hasSum != 0 {
		want := uint16(sum)
		if got, err := r.bits(16); err != nil || uint16(got) != want {
			return errors.Join(err, errCorrupt)
		}
	}
	r.state, r.read, r.written, r.checksum, r.size = blockHead, 0, 0, 0, 0
	return nil
}
