package inflate

import "io"

// maxSymbols and maxDistances bound the codes that a block may tell.
const (
	maxSymbols   = 286
	maxDistances = 30
)

// beginBlock reads a block's head.
func (r *Reader) beginBlock() error {
	head, err := r.bits(3)
	if err != nil {
		return err
	}
	r.final = head&1 != 0
	switch head >> 1 {
	case 0:
		return r.beginStored()
	case 1:
		r.tables, r.state = &fixed, coded
	case 2:
		if err := r.readCodes(); err != nil {
			return err
		}
		r.tables, r.state = &r.own, coded
	default:
		return errCorrupt
	}
	return nil
}

// beginStored reads the head of a block that is not compressed.
func (r *Reader) beginStored() error {
	r.align()
	sizes, err := r.bits(32)
	if err != nil {
		return err
	}
	if uint16(sizes) != ^uint16(sizes>>16) {
		return errCorrupt
	}
	r.left, r.state = int(sizes&0xffff), stored
	return nil
}

// copyStored moves what is left of the block, or what there is room for.
func (r *Reader) copyStored() error {
	for r.left > 0 && r.written < bufferSize {
		if r.held > 0 { // whole bytes that the bit buffer has taken in
			r.buffer[r.written] = byte(r.hold)
			r.hold >>= 8
			r.held -= 8
			r.written++
			r.left--
			continue
		}
		if len(r.in) == 0 {
			if err := r.more(); err != nil {
				return unexpected(err)
			}
		}
		n := copy(r.buffer[r.written:bufferSize], r.in[:min(len(r.in), r.left)])
		r.in = r.in[n:]
		r.written += n
		r.left -= n
	}
	if r.left == 0 {
		r.endBlock()
	}
	return nil
}

// endBlock decides what follows a block.
func (r *Reader) endBlock() {
	r.state = blockHead
	if r.final {
		r.state = memberEnd
	}
}

// order is the one in which the lengths of the length codes stand (RFC 1951, 3.2.7).
var order = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// readCodes reads the codes of a block and builds its tables.
func (r *Reader) readCodes() error {
	counts, err := r.bits(14)
	if err != nil {
		return err
	}
	symbols, distances, codes := int(counts&31)+257, int(counts>>5&31)+1, int(counts>>10)+4
	if symbols > maxSymbols || distances > maxDistances {
		return errCorrupt
	}
	var first [19]uint8
	for _, at := range order[:codes] {
		b, err := r.bits(3)
		if err != nil {
			return err
		}
		first[at] = uint8(b)
	}
	const lengthBits = 7
	var table [1 << lengthBits]entry
	if !build(table[:], lengthBits, first[:], lengthMeanings) {
		return errCorrupt
	}
	var lengths [maxSymbols + maxDistances]uint8
	for n := 0; n < symbols+distances; {
		r.fill(lengthBits)
		e := table[r.hold&(1<<lengthBits-1)]
		if e&special != 0 {
			return r.noCode()
		}
		if err := r.take(uint(e & 63)); err != nil {
			return err
		}
		what := uint8(e >> 16)
		if what < 16 {
			lengths[n] = what
			n++
			continue
		}
		repeat, value, extra := 3, uint8(0), uint(2)
		switch what {
		case 16:
			if n == 0 {
				return errCorrupt
			}
			value = lengths[n-1]
		case 17:
			extra = 3
		case 18:
			repeat, extra = 11, 7
		}
		b, err := r.bits(extra)
		if err != nil {
			return err
		}
		if repeat += int(b); n+repeat > symbols+distances {
			return errCorrupt
		}
		for range repeat {
			lengths[n] = value
			n++
		}
	}
	if !build(r.own.symbols[:], symbolBits, lengths[:symbols], symbolMeanings) ||
		!build(r.own.distances[:], distanceBits, lengths[symbols:symbols+distances], distanceMeanings) {
		return errCorrupt
	}
	return nil
}

// more gets the next piece of the source.
func (r *Reader) more() error {
	for len(r.in) == 0 && r.ended == nil {
		r.in, r.ended = r.next()
	}
	return r.ended
}

// fill tries to have n bits at hand, at most 32. At the end of the source there are
// fewer, and zeros behind them.
func (r *Reader) fill(n uint) {
	for r.held < n {
		if len(r.in) == 0 {
			if r.more() != nil {
				return
			}
		}
		r.hold |= uint64(r.in[0]) << r.held
		r.in = r.in[1:]
		r.held += 8
	}
}

// take drops n bits of those that fill got.
func (r *Reader) take(n uint) error {
	if n > r.held {
		return unexpected(r.ended)
	}
	r.hold >>= n
	r.held -= n
	return nil
}

// bits reads n bits, at most 32.
func (r *Reader) bits(n uint) (uint64, error) {
	r.fill(n)
	b := r.hold & (1<<n - 1)
	return b, r.take(n)
}

// align drops bits up to the next byte's first.
func (r *Reader) align() {
	r.hold >>= r.held & 7
	r.held &^= 7
}

// noCode is the error for bits that are no code, which may be so because they are too few.
func (r *Reader) noCode() error {
	if r.ended != nil {
		return unexpected(r.ended)
	}
	return errCorrupt
}

// unexpected is the end of the source where there should be more.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
