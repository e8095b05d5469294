package inflate

import "math/bits"

// An entry of a decoding table says what the next bits mean:
//
//	31        a literal
//	30..16    the literal; the base of a length or distance; where a second table begins
//	15        special: one of the three below
//	14        the rest of the code is looked up in a second table
//	13        the end of the block
//	12..8     bits of the code without extra bits; of a second table: bits of its index
//	5..0      bits to take, extra bits included; of a second table: those taken by the first
//
// An entry that is special and neither of the others stands for bits that are no code.
type entry uint32

const (
	literal  entry = 1 << 31
	special  entry = 1 << 15
	second   entry = 1 << 14
	blockEnd entry = 1 << 13
)

// Bits of the index of the first tables, and the sizes of arrays that hold a first table
// and all second ones. zlib's enough.c computes the largest need: 2342 entries for 288
// symbols by 11 bits, 402 for 32 by 8. The sizes are powers of two, so that a masked index
// needs no check.
const (
	symbolBits   = 11
	symbolSize   = 4096
	distanceBits = 8
	distanceSize = 512
	maxCode      = 15
)

// build fills a table from the codes' lengths (RFC 1951, 3.2.2), of which what are the
// meanings: entries without lengths of the code. It reports whether the lengths are those
// of a code: complete, a single code of one bit, or none at all.
func build(table []entry, indexBits uint, lengths []uint8, what []entry) bool {
	var count [maxCode + 1]int
	for _, l := range lengths {
		count[l]++
	}
	count[0] = 0
	space, longest := 1<<maxCode, 0
	for l := 1; l <= maxCode; l++ {
		space -= count[l] << (maxCode - l)
		if count[l] > 0 {
			longest = l
		}
	}
	if space != 0 {
		if single := longest == 1 && count[1] == 1; space < 0 || longest != 0 && !single {
			return false
		}
		for i := range table[:1<<indexBits] {
			table[i] = special
		}
	}
	var sorted [288]uint16
	var next [maxCode + 2]int
	for l := 1; l <= maxCode; l++ {
		next[l+1] = next[l] + count[l]
	}
	codes := next[maxCode+1]
	for symbol, l := range lengths {
		if l != 0 {
			sorted[next[l]] = uint16(symbol)
			next[l]++
		}
	}
	code, length := uint(0), uint(1)
	free := uint(1) << indexBits // where the next second table goes
	prefix, start, width := ^uint(0), uint(0), uint(0)
	left := count[1]
	for _, symbol := range sorted[:codes] {
		for left == 0 {
			length++
			code <<= 1
			left = count[length]
		}
		reversed := uint(bits.Reverse16(uint16(code))) >> (16 - length)
		e := what[symbol]
		if length <= indexBits {
			e += entry(length<<8 | length)
			for i := reversed; i < 1<<indexBits; i += 1 << length {
				table[i] = e
			}
		} else {
			if p := reversed & (1<<indexBits - 1); p != prefix {
				// As wide as needed for the codes that share the prefix, which follow
				// each other.
				prefix, start, width = p, free, length-indexBits
				for used := left; used < 1<<width; {
					width++
					used = used<<1 + count[indexBits+width]
				}
				free += 1 << width
				table[prefix] = special | second | entry(start<<16|width<<8|indexBits)
			}
			rest := length - indexBits
			e += entry(rest<<8 | rest)
			for i := reversed >> indexBits; i < 1<<width; i += 1 << rest {
				table[start+i] = e
			}
		}
		code++
		left--
	}
	return true
}

// What symbols mean (RFC 1951, 3.2.5), extra bits added to the bits to take.
var (
	symbolMeanings   = symbols()
	distanceMeanings = distances()
	lengthMeanings   = codeLengths()
)

func symbols() []entry {
	list := make([]entry, 288)
	for i := range 256 {
		list[i] = literal | entry(i)<<16
	}
	list[256] = special | blockEnd
	base := entry(3)
	for i := range entry(28) {
		extra := entry(0)
		if i >= 8 {
			extra = i/4 - 1
		}
		list[257+i] = base<<16 | extra
		base += 1 << extra
	}
	list[285] = 258 << 16
	list[286], list[287] = special, special // in the fixed code, and never used
	return list
}

func distances() []entry {
	list := make([]entry, 32)
	base := entry(1)
	for i := range entry(30) {
		extra := entry(0)
		if i >= 4 {
			extra = i/2 - 1
		}
		list[i] = base<<16 | extra
		base += 1 << extra
	}
	list[30], list[31] = special, special
	return list
}

// codeLengths are the symbols by which the lengths of the codes are told.
func codeLengths() []entry {
	list := make([]entry, 19)
	for i := range list {
		list[i] = entry(i) << 16
	}
	return list
}

// fixed are the tables of blocks with the fixed codes (RFC 1951, 3.2.6).
var fixed = func() (t tables) {
	lengths := make([]uint8, 288)
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	build(t.symbols[:], symbolBits, lengths, symbolMeanings)
	for i := range lengths[:32] {
		lengths[i] = 5
	}
	build(t.distances[:], distanceBits, lengths[:32], distanceMeanings)
	return t
}()

// tables decode one block.
type tables struct {
	symbols   [symbolSize]entry
	distances [distanceSize]entry
}
