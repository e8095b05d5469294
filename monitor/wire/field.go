package wire

// A message is a sequence of numbered fields, in the encoding of protocol buffers:
//
//	key (varint: number<<3 | type)  value
//	type 0: varint    type 1: 8 bytes, little endian    type 2: varint length, bytes
//	type 5: 4 bytes, little endian
//
// A field that is zero or empty is left out. monitor/otlp writes OTLP with the same
// functions.

const (
	typeVarint  = 0
	typeFixed64 = 1
	typeBytes   = 2
	typeFixed32 = 5
)

// AppendVarint appends v in base 128, low bits first.
func AppendVarint(buf []byte, v uint64) []byte {
	for v >= 0x80 {
		buf = append(buf, byte(v)|0x80)
		v >>= 7
	}
	return append(buf, byte(v))
}

func appendKey(buf []byte, num, typ int) []byte {
	return AppendVarint(buf, uint64(num)<<3|uint64(typ))
}

// AppendUint appends field num unless v is zero.
func AppendUint(buf []byte, num int, v uint64) []byte {
	if v == 0 {
		return buf
	}
	return AppendVarint(appendKey(buf, num, typeVarint), v)
}

// AppendBool appends field num unless v is false.
func AppendBool(buf []byte, num int, v bool) []byte {
	if !v {
		return buf
	}
	return AppendUint(buf, num, 1)
}

// AppendFixed64 appends field num, zero included.
func AppendFixed64(buf []byte, num int, v uint64) []byte {
	buf = appendKey(buf, num, typeFixed64)
	return append(buf, byte(v), byte(v>>8), byte(v>>16), byte(v>>24), byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56))
}

// AppendString appends field num unless v is empty.
func AppendString(buf []byte, num int, v string) []byte {
	if v == "" {
		return buf
	}
	buf = AppendVarint(appendKey(buf, num, typeBytes), uint64(len(v)))
	return append(buf, v...)
}

// AppendBytes appends field num unless v is empty.
func AppendBytes(buf []byte, num int, v []byte) []byte {
	if len(v) == 0 {
		return buf
	}
	return append(AppendHeader(buf, num, len(v)), v...)
}

// AppendHeader appends the start of a field of size bytes, which the caller
// appends next; size may be zero.
func AppendHeader(buf []byte, num, size int) []byte {
	return AppendVarint(appendKey(buf, num, typeBytes), uint64(size))
}

// lenWidth is the width at which Open leaves room for a length: four bytes of a
// varint, padded, hold 256 MiB.
const lenWidth = 4

// Open begins field num of type 2, whose content the caller appends; Shut, with the mark
// that Open returned, fills in its length. Nothing is encoded apart and copied: in a
// monitor, each size that a buffer had while it grew costs a page.
func Open(buf []byte, num int) (grown []byte, mark int) {
	buf = append(appendKey(buf, num, typeBytes), 0x80, 0x80, 0x80, 0)
	return buf, len(buf)
}

// Shut ends the field that Open began.
func Shut(buf []byte, mark int) {
	n := len(buf) - mark
	at := buf[mark-lenWidth:]
	at[0], at[1], at[2], at[3] = byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14)|0x80, byte(n>>21)&0x7f
}

// Field is one decoded field.
type Field struct {
	Num int
	// Uint is the value of a number of any type.
	Uint uint64
	// Bytes is the value of type 2; it aliases the message.
	Bytes []byte
}

// Next cuts the first field off buf, which must not be empty.
func Next(buf []byte) (f Field, rest []byte, err error) {
	key, buf, ok := cutVarint(buf)
	if !ok || key>>3 == 0 || key>>3 > 1<<20 {
		return f, nil, ErrMalformed
	}
	f.Num = int(key >> 3)
	switch key & 7 {
	case typeVarint:
		if f.Uint, buf, ok = cutVarint(buf); !ok {
			return f, nil, ErrMalformed
		}
	case typeFixed64, typeFixed32:
		size := 8
		if key&7 == typeFixed32 {
			size = 4
		}
		if len(buf) < size {
			return f, nil, ErrMalformed
		}
		for i := size - 1; i >= 0; i-- {
			f.Uint = f.Uint<<8 | uint64(buf[i])
		}
		buf = buf[size:]
	case typeBytes:
		var n uint64
		if n, buf, ok = cutVarint(buf); !ok || n > uint64(len(buf)) {
			return f, nil, ErrMalformed
		}
		f.Bytes, buf = buf[:n:n], buf[n:]
	default:
		return f, nil, ErrMalformed
	}
	return f, buf, nil
}

func cutVarint(buf []byte) (v uint64, rest []byte, ok bool) {
	for i, b := range buf {
		if i == 9 && b > 1 || i == 10 {
			return 0, nil, false
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return v, buf[i+1:], true
		}
	}
	return 0, nil, false
}
