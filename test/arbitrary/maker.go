package arbitrary

import (
	"encoding/binary"
	"math/rand/v2"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Maker makes messages. It is not safe for concurrent use.
type Maker struct {
	// Next gives the numbers that everything follows from.
	Next func() uint64
	// Words are sensible values of string and bytes fields, by the field's name: half of
	// what is chosen. A list that is empty, but there, leaves the field out.
	Words map[string][]string
	// Only names fields that never have another value than one of Words: those with
	// which a request could harm the host that the test runs on.
	Only map[string]bool
	// Large allows values of up to a megabyte and lists of thousands.
	Large bool
	// left bounds the values of one message: a list of thousands whose elements have
	// such lists would have no end.
	left int
}

// most is how many values one message gets, about.
const most = 10000

// FromSeed is a Maker whose messages follow from a number.
func FromSeed(seed uint64) *Maker {
	return &Maker{Next: rand.New(rand.NewPCG(seed, 0)).Uint64}
}

// FromBytes is a Maker whose messages follow from bytes, each choice from the next of
// them; when they are used up, all choices are the first. It is for fuzzers.
func FromBytes(input []byte) *Maker {
	return &Maker{Next: func() uint64 {
		var n [8]byte
		input = input[copy(n[:2], input):]
		return uint64(binary.LittleEndian.Uint16(n[:]))
	}}
}

// below chooses a number from 0 to n-1.
func (m *Maker) below(n int) int { return int(m.Next() % uint64(n)) }

// Choose is one of the values.
func Choose[T any](m *Maker, values []T) T { return values[m.below(len(values))] }

// Fill gives each field of an empty message a value, or leaves it out.
func (m *Maker) Fill(message proto.Message) {
	m.left = most
	m.fill(message.ProtoReflect(), 0)
}

// maxDepth bounds messages within messages: CRI's own are not deeper.
const maxDepth = 8

func (m *Maker) fill(r protoreflect.Message, depth int) {
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		if m.below(2) == 0 {
			m.set(r, fields.Get(i), depth)
		}
	}
}

// Disturb gives so many fields of a message, wherever in it, another value or none.
func (m *Maker) Disturb(message proto.Message, times int) {
	m.left = most
	for range times {
		var places []place
		collect(message.ProtoReflect(), &places, 0)
		if len(places) == 0 {
			return
		}
		p := Choose(m, places)
		if m.below(4) == 0 {
			p.in.Clear(p.field)
		} else {
			m.set(p.in, p.field, p.depth)
		}
	}
}

// place is one field of one message.
type place struct {
	in    protoreflect.Message
	field protoreflect.FieldDescriptor
	depth int
}

func collect(r protoreflect.Message, places *[]place, depth int) {
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		*places = append(*places, place{r, f, depth})
		switch {
		case f.IsMap() || f.Message() == nil || !r.Has(f):
		case f.IsList():
			for j := range r.Get(f).List().Len() {
				collect(r.Get(f).List().Get(j).Message(), places, depth+1)
			}
		default:
			collect(r.Get(f).Message(), places, depth+1)
		}
	}
}

// set gives a field a value.
func (m *Maker) set(r protoreflect.Message, f protoreflect.FieldDescriptor, depth int) {
	if m.left--; m.left < 0 {
		return
	}
	switch {
	case f.IsMap():
		entries := r.Mutable(f).Map()
		for range m.length() {
			key, value := m.scalar(f.MapKey(), string(f.Name())+".key"), m.scalar(f.MapValue(), string(f.Name())+".value")
			if key.IsValid() && value.IsValid() {
				entries.Set(key.MapKey(), value)
			}
		}
	case f.IsList():
		list := r.Mutable(f).List()
		list.Truncate(0)
		for range m.length() {
			if f.Message() != nil {
				m.message(list.AppendMutable().Message(), depth)
			} else if v := m.scalar(f, string(f.Name())); v.IsValid() {
				list.Append(v)
			}
		}
	case f.Message() != nil:
		r.Clear(f)
		m.message(r.Mutable(f).Message(), depth)
	default:
		if v := m.scalar(f, string(f.Name())); v.IsValid() {
			r.Set(f, v)
		}
	}
}

func (m *Maker) message(r protoreflect.Message, depth int) {
	if depth < maxDepth && m.below(4) > 0 {
		m.fill(r, depth+1)
	}
}

// length is that of a list or a map, short most of the time.
func (m *Maker) length() int {
	n := m.below(64)
	length := n % 4
	switch {
	case n == 63 && m.Large:
		length = 4096
	case n == 62:
		length = 40
	}
	length = min(length, max(m.left, 0))
	m.left -= length
	return length
}
