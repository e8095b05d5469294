package telemetry

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// The store keeps spans packed: as Go values one takes 700 to 1000 bytes, mostly of
// maps and of the same words again and again, packed 100 to 250. A span is
//
//	length  of what follows
//	id      see text
//	parent  text
//	flags   of spanError and spanUnfinished
//	name, kind, service  words
//	start   nanoseconds, duration
//	status  text
//	attributes, events, links: each a count and the items
//
// Numbers are varints. A word is its number in the store's table plus one, or zero
// and a text. A text is its length times two and its bytes, or, for lower-case
// hexadecimal digits, times two plus one and half as many bytes.

const (
	spanError = 1 << iota
	spanUnfinished
)

// maxWords bounds the table of names and keys. Those of a node are some hundreds;
// beyond the bound they are texts.
const maxWords = 4096

// words numbers the names that come again and again.
type words struct {
	numbers map[string]int
	list    []string
}

// packer appends to b.
type packer struct {
	b     []byte
	words *words
}

// pack appends s to b.
func (w *words) pack(b []byte, s *waterfall.Span) []byte {
	p := packer{words: w}
	p.text(s.ID)
	p.text(s.ParentID)
	flags := 0
	if s.Error {
		flags |= spanError
	}
	if s.Unfinished {
		flags |= spanUnfinished
	}
	p.count(flags)
	p.word(s.Name)
	p.word(s.Kind)
	p.word(s.Service)
	p.int(s.Start)
	p.int(s.End - s.Start)
	p.text(s.Status)
	p.attributes(s.Attributes)
	p.count(len(s.Events))
	for _, e := range s.Events {
		p.word(e.Name)
		p.int(e.Time - s.Start)
		p.attributes(e.Attributes)
	}
	p.count(len(s.Links))
	for _, l := range s.Links {
		p.text(l.TraceID)
		p.text(l.SpanID)
	}
	return append(binary.AppendUvarint(b, uint64(len(p.b))), p.b...)
}

func (p *packer) count(n int) { p.b = binary.AppendUvarint(p.b, uint64(n)) }
func (p *packer) int(n int64) { p.b = binary.AppendVarint(p.b, n) }
func (p *packer) text(s string) {
	if len(s) > 0 && len(s)%2 == 0 && isLowerHex(s) {
		p.count(len(s)<<1 | 1)
		p.b, _ = hex.AppendDecode(p.b, []byte(s)) // it is hexadecimal
		return
	}
	p.count(len(s) << 1)
	p.b = append(p.b, s...)
}

func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func (p *packer) word(s string) {
	w := p.words
	n, known := w.numbers[s]
	if !known && len(w.list) < maxWords && len(s) <= 64 {
		if w.numbers == nil {
			w.numbers = map[string]int{}
		}
		s = string([]byte(s)) // not a part of something larger
		n, known = len(w.list), true
		w.numbers[s], w.list = n, append(w.list, s)
	}
	if known {
		p.count(n + 1)
		return
	}
	p.count(0)
	p.text(s)
}

func (p *packer) attributes(m map[string]any) {
	p.count(len(m))
	for key, v := range m {
		p.word(key)
		p.value(v)
	}
}

// Kinds of values. A list is a count and its items.
const (
	valueText = iota
	valueTrue
	valueFalse
	valueInt
	valueFloat
	valueTexts
	valueBools
	valueInts
	valueFloats
	valueList
)

// value packs what attributeMap and protoMap make; anything else becomes text.
func (p *packer) value(v any) {
	switch v := v.(type) {
	case string:
		p.count(valueText)
		p.text(v)
	case bool:
		if v {
			p.count(valueTrue)
		} else {
			p.count(valueFalse)
		}
	case int64:
		p.count(valueInt)
		p.int(v)
	case float64:
		p.count(valueFloat)
		p.b = binary.LittleEndian.AppendUint64(p.b, math.Float64bits(v))
	case []string:
		packList(p, valueTexts, v)
	case []bool:
		packList(p, valueBools, v)
	case []int64:
		packList(p, valueInts, v)
	case []float64:
		packList(p, valueFloats, v)
	case []any:
		packList(p, valueList, v)
	default:
		p.value(fmt.Sprint(v))
	}
}

func packList[T any](p *packer, kind int, list []T) {
	p.count(kind)
	p.count(len(list))
	for _, v := range list {
		p.value(v)
	}
}

// unpacker reads what packer wrote, in the same process: it is never malformed.
type unpacker struct {
	b     []byte
	words *words
}

// unpack returns all spans.
func (w *words) unpack(b []byte, count int) []waterfall.Span {
	spans := make([]waterfall.Span, 0, count)
	u := unpacker{b, w}
	for len(u.b) > 0 {
		u.count()
		spans = append(spans, u.span())
	}
	return spans
}

// packedHas says whether one of the packed spans has this id.
func (w *words) packedHas(b []byte, id string) bool {
	p := packer{words: w}
	p.text(id)
	for u := (unpacker{b, w}); len(u.b) > 0; {
		size := u.count()
		// A text tells its own length, so that no other id begins with the same bytes.
		if size >= len(p.b) && slices.Equal(u.b[:len(p.b)], p.b) {
			return true
		}
		u.b = u.b[size:]
	}
	return false
}

func (u *unpacker) span() (s waterfall.Span) {
	s.ID, s.ParentID = u.text(), u.text()
	flags := u.count()
	s.Error, s.Unfinished = flags&spanError != 0, flags&spanUnfinished != 0
	s.Name, s.Kind, s.Service = u.word(), u.word(), u.word()
	s.Start = u.int()
	s.End = s.Start + u.int()
	s.Status = u.text()
	s.Attributes = u.attributes()
	for range u.count() {
		s.Events = append(s.Events, waterfall.Event{Name: u.word(), Time: s.Start + u.int(), Attributes: u.attributes()})
	}
	for range u.count() {
		s.Links = append(s.Links, waterfall.Link{TraceID: u.text(), SpanID: u.text()})
	}
	return s
}

func (u *unpacker) count() int {
	n, size := binary.Uvarint(u.b)
	u.b = u.b[size:]
	return int(n)
}

func (u *unpacker) int() int64 {
	n, size := binary.Varint(u.b)
	u.b = u.b[size:]
	return n
}

func (u *unpacker) text() string {
	n := u.count()
	if n&1 == 0 {
		return string(u.bytes(n >> 1))
	}
	return hex.EncodeToString(u.bytes(n >> 2))
}

func (u *unpacker) bytes(n int) []byte {
	b := u.b[:n]
	u.b = u.b[n:]
	return b
}

func (u *unpacker) word() string {
	if n := u.count(); n > 0 {
		return u.words.list[n-1]
	}
	return u.text()
}

func (u *unpacker) attributes() map[string]any {
	n := u.count()
	if n == 0 {
		return nil
	}
	m := make(map[string]any, n)
	for range n {
		key := u.word()
		m[key] = u.value()
	}
	return m
}

func (u *unpacker) value() any {
	switch u.count() {
	case valueText:
		return u.text()
	case valueTrue:
		return true
	case valueFalse:
		return false
	case valueInt:
		return u.int()
	case valueFloat:
		return math.Float64frombits(binary.LittleEndian.Uint64(u.bytes(8)))
	case valueTexts:
		return unpackList[string](u)
	case valueBools:
		return unpackList[bool](u)
	case valueInts:
		return unpackList[int64](u)
	case valueFloats:
		return unpackList[float64](u)
	default:
		return unpackList[any](u)
	}
}

func unpackList[T any](u *unpacker) []T {
	list := make([]T, u.count())
	for i := range list {
		list[i], _ = u.value().(T)
	}
	return list
}
