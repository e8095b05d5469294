package image

import (
	"encoding/binary"
	"hash/crc64"
)

// checksum is the CRC-64 by which containers/storage knows the content of a file again when
// it rebuilds an archive: hash/crc64's with the polynomial ISO. That polynomial has five
// terms, so that shifts can do what tables do elsewhere, for four words that do not wait for
// each other (BenchmarkChecksum).
//
// Registers are reflected, as those of crc64: the lowest bit is the highest power, and to
// multiply by a power of x is to shift right. What falls out is worth x⁶⁴ and more, and
// x⁶⁴ is x⁴+x³+x+1 modulo the polynomial.
type checksum uint64

var crcTable = crc64.MakeTable(crc64.ISO)

func (c *checksum) write(b []byte) {
	if len(b) >= 128 {
		first := ^uint64(*c) ^ binary.LittleEndian.Uint64(b)
		second := binary.LittleEndian.Uint64(b[8:])
		third := binary.LittleEndian.Uint64(b[16:])
		fourth := binary.LittleEndian.Uint64(b[24:])
		for b = b[32:]; len(b) >= 32; b = b[32:] {
			first = timesX256(first) ^ binary.LittleEndian.Uint64(b)
			second = timesX256(second) ^ binary.LittleEndian.Uint64(b[8:])
			third = timesX256(third) ^ binary.LittleEndian.Uint64(b[16:])
			fourth = timesX256(fourth) ^ binary.LittleEndian.Uint64(b[24:])
		}
		*c = checksum(^timesX64(timesX64(timesX64(timesX64(first)^second)^third) ^ fourth))
	}
	*c = checksum(crc64.Update(uint64(*c), crcTable, b))
}

// sum is the checksum's bytes, as hash.Hash has them.
func (c checksum) sum() []byte { return binary.BigEndian.AppendUint64(nil, uint64(c)) }

// timesX64 multiplies by x⁶⁴, which is (x³+1)(x+1).
func timesX64(a uint64) uint64 {
	b := a ^ a>>1
	out := a << 63
	return b ^ b>>3 ^ reduce(out^out>>3^b<<61)
}

// timesX256 multiplies by x²⁵⁶, which is (x⁴+x³+x+1)⁴ = (x¹²+1)(x⁴+1).
func timesX256(a uint64) uint64 {
	b := a ^ a>>4
	out := a << 60
	return b ^ b>>12 ^ reduce(out^out>>12^b<<52)
}

// reduce is the remainder of what fell out: out times x⁶⁴.
func reduce(out uint64) uint64 {
	out ^= out >> 1
	return out ^ out>>3
}
