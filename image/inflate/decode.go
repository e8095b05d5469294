package inflate

import "encoding/binary"

// A round of the quick loop reads at most quickIn bytes, and writes at most quickOut: two
// literals, a match of 258 bytes and what copying in words writes beyond it.
const (
	quickIn  = 16
	quickOut = 2 + 258 + 16
)

// decode goes on with a block until it ends or the buffer is full.
func (r *Reader) decode() error {
	for r.written <= bufferSize-quickOut {
		if len(r.in) >= quickIn {
			if done, err := r.decodeQuickly(); done || err != nil {
				return err
			}
			continue
		}
		// Between two pieces of the source, and at its end.
		if done, err := r.decodeOne(); done || err != nil {
			return err
		}
	}
	return nil
}

// decodeQuickly decodes while neither end is near. All it needs is in local variables, and
// bits are taken in by the word: what lies above held in hold are the bits that follow,
// so that they may be taken in a second time.
func (r *Reader) decodeQuickly() (done bool, err error) {
	in, at := r.in, 0
	out, to := r.buffer[:], r.written
	hold, held := r.hold, r.held
	symbols, distances := &r.tables.symbols, &r.tables.distances
	for at <= len(in)-quickIn && to <= bufferSize-quickOut {
		hold |= binary.LittleEndian.Uint64(in[at:]) << (held & 63)
		at += int((63 - held) >> 3)
		held |= 56
		e := symbols[hold&(1<<symbolBits-1)]
		if e&literal != 0 { // each takes 11 bits at most
			hold >>= e & 63
			held -= uint(e & 63)
			out[to] = byte(e >> 16)
			to++
			e = symbols[hold&(1<<symbolBits-1)]
			if e&literal != 0 {
				hold >>= e & 63
				held -= uint(e & 63)
				out[to] = byte(e >> 16)
				to++
				e = symbols[hold&(1<<symbolBits-1)]
				if e&literal != 0 {
					hold >>= e & 63
					held -= uint(e & 63)
					out[to] = byte(e >> 16)
					to++
					continue
				}
			}
			hold |= binary.LittleEndian.Uint64(in[at:]) << (held & 63)
			at += int((63 - held) >> 3)
			held |= 56
		}
		// 56 bits are at hand; a length takes 20 at most and a distance 28.
		if e&special != 0 {
			if e&second != 0 {
				hold >>= symbolBits
				held -= symbolBits
				e = symbols[(uint64(e>>16)+hold&(1<<(e>>8&31)-1))&(symbolSize-1)]
				if e&literal != 0 {
					hold >>= e & 63
					held -= uint(e & 63)
					out[to] = byte(e >> 16)
					to++
					continue
				}
			}
			if e&special != 0 {
				if e&blockEnd == 0 {
					return true, errCorrupt
				}
				hold >>= e & 63
				held -= uint(e & 63)
				done = true
				break
			}
		}
		length := int(e>>16) + int(hold&(1<<(e&63)-1)>>(e>>8&31))
		hold >>= e & 63
		held -= uint(e & 63)
		e = distances[hold&(1<<distanceBits-1)]
		if e&special != 0 {
			if e&second == 0 {
				return true, errCorrupt
			}
			hold >>= distanceBits
			held -= distanceBits
			if e = distances[(uint64(e>>16)+hold&(1<<(e>>8&31)-1))&(distanceSize-1)]; e&special != 0 {
				return true, errCorrupt
			}
		}
		distance := int(e>>16) + int(hold&(1<<(e&63)-1)>>(e>>8&31))
		hold >>= e & 63
		held -= uint(e & 63)
		if distance > to {
			return true, errCorrupt
		}
		from := to - distance
		end := to + length
		switch {
		case distance >= 8:
			binary.LittleEndian.PutUint64(out[to:], binary.LittleEndian.Uint64(out[from:]))
			binary.LittleEndian.PutUint64(out[to+8:], binary.LittleEndian.Uint64(out[from+8:]))
			for to, from = to+16, from+16; to < end; to, from = to+8, from+8 {
				binary.LittleEndian.PutUint64(out[to:], binary.LittleEndian.Uint64(out[from:]))
			}
		case distance == 1:
			word := uint64(out[from]) * 0x0101010101010101
			for ; to < end; to += 8 {
				binary.LittleEndian.PutUint64(out[to:], word)
			}
		default:
			for ; to < end; to, from = to+1, from+1 {
				out[to] = out[from]
			}
		}
		to = end
	}
	r.in = in[at:]
	r.hold, r.held = hold&(1<<held-1), held
	r.written = to
	if done {
		r.endBlock()
	}
	return done, nil
}

// decodeOne decodes one symbol with its distance, byte by byte.
func (r *Reader) decodeOne() (done bool, err error) {
	e, err := r.code(r.tables.symbols[:], symbolBits)
	if err != nil {
		return true, err
	}
	if e&literal != 0 {
		r.buffer[r.written] = byte(e >> 16)
		r.written++
		return false, nil
	}
	if e&blockEnd != 0 {
		r.endBlock()
		return true, nil
	}
	length, err := r.value(e)
	if err != nil {
		return true, err
	}
	if e, err = r.code(r.tables.distances[:], distanceBits); err != nil {
		return true, err
	}
	distance, err := r.value(e)
	if err != nil {
		return true, err
	}
	if distance > r.written {
		return true, errCorrupt
	}
	for range length {
		r.buffer[r.written] = r.buffer[r.written-distance]
		r.written++
	}
	return false, nil
}

// code reads one code and returns what it means; its extra bits come next.
func (r *Reader) code(table []entry, indexBits uint) (entry, error) {
	r.fill(maxCode)
	e := table[r.hold&(1<<indexBits-1)]
	if e&second != 0 {
		if err := r.take(indexBits); err != nil {
			return 0, err
		}
		e = table[uint64(e>>16&(symbolSize-1))+r.hold&(1<<(e>>8&31)-1)]
	}
	if e&special != 0 && e&blockEnd == 0 {
		return 0, r.noCode()
	}
	return e, r.take(uint(e >> 8 & 31))
}

// value is the base of an entry with its extra bits added.
func (r *Reader) value(e entry) (int, error) {
	extra, err := r.bits(uint(e&63) - uint(e>>8&31))
	return int(e>>16) + int(extra), err
}
