package arbitrary

import (
	"math"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// numbers are where arithmetic goes wrong.
var numbers = []int64{
	0, 1, -1, 2, 3, 7, 100, 1000, 4096, 65535, 65536, 100000, 1 << 20, 64 << 20,
	math.MaxInt32, math.MaxInt32 + 1, math.MinInt32, math.MaxUint32, math.MaxInt64, math.MinInt64, math.MinInt64 + 1,
}

// texts are what parsers, paths, lines and terminals stumble over.
var texts = []string{
	"", "a", ".", "..", "/", "//", "a/b", "../../../../x", "/a/../..", "/proc/self/fd/3", "/dev/null", "a\x00b", "a\nb", "a\r\nb", "\t", "\x7f", "\x1b[2J",
	"a b", "a=b", "=", ":", "a:b:c", "@", "a@sha256:00", "ü", "\u202e", "\u0000", "%s%n", "$(x)", "`x`", "-", "--", "-1", "0", "1", "4294967296",
	"18446744073709551616", "localhost/", "localhost/x", "unconfined", "runtime/default", "ALL", "CAP_SYS_ADMIN", "null", "{}", "true",
	strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("x", 256), strings.Repeat("../", 100), strings.Repeat("/x", 3000),
}

// scalar is a value of a field that is no message; name finds its words. It is no value
// when the field is to be left out.
func (m *Maker) scalar(f protoreflect.FieldDescriptor, name string) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(m.below(2) == 1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(m.enum(f.Enum()))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(m.number()))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(m.number()))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(m.number())
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(m.number()))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(m.number()))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(m.number()))
	case protoreflect.BytesKind:
		text, given := m.text(name)
		if !given {
			return protoreflect.Value{}
		}
		if m.below(8) == 0 && !m.Only[name] {
			text += "\xff\xfe"
		}
		return protoreflect.ValueOfBytes([]byte(text))
	default:
		text, given := m.text(name)
		if !given {
			return protoreflect.Value{}
		}
		return protoreflect.ValueOfString(text)
	}
}

func (m *Maker) number() int64 {
	if n := m.below(8); n == 0 {
		return int64(m.Next())
	}
	return Choose(m, numbers)
}

func (m *Maker) enum(e protoreflect.EnumDescriptor) protoreflect.EnumNumber {
	if m.below(8) == 0 {
		return protoreflect.EnumNumber(int32(m.number()))
	}
	return e.Values().Get(m.below(e.Values().Len())).Number()
}

// largest is what a field may hold when Large is set, in bytes.
const largest = 1 << 20

func (m *Maker) text(name string) (text string, given bool) {
	words, known := m.Words[name]
	switch {
	case known && len(words) == 0:
		return "", false
	case known && (m.Only[name] || m.below(2) == 0):
		return Choose(m, words), true
	case m.Only[name]:
		return "", false
	case m.Large && m.below(256) == 0:
		return strings.Repeat("x", largest), true
	}
	return Choose(m, texts), true
}
