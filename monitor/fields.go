package monitor

import (
	"strconv"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// fields writes a record or reads one: the same list of calls does both, so that what
// is written and what is read cannot drift apart.
type fields struct {
	reading bool
	buf     []byte // what was written, or what is read
	fds     []int  // the descriptors named
	err     error  // the first that went wrong while reading
}

// find is the last field of that number, absent with ok false.
func (f *fields) find(num int) (found wire.Field, ok bool) {
	f.each(num, func(v wire.Field) { found, ok = v, true })
	return found, ok
}

// each calls do for every field of that number.
func (f *fields) each(num int, do func(wire.Field)) {
	for rest := f.buf; len(rest) > 0 && f.err == nil; {
		var v wire.Field
		if v, rest, f.err = wire.Next(rest); f.err == nil && v.Num == num {
			do(v)
		}
	}
}

// integer carries any integer; zero is not written.
func integer[T ~int | ~int64 | ~uint8 | ~uint32 | ~uint64 | ~uintptr](f *fields, num int, v *T) {
	if !f.reading {
		f.buf = wire.AppendUint(f.buf, num, uint64(*v))
	} else if got, ok := f.find(num); ok {
		*v = T(got.Uint)
	}
}

func (f *fields) flag(num int, v *bool) {
	if !f.reading {
		f.buf = wire.AppendBool(f.buf, num, *v)
	} else if got, ok := f.find(num); ok {
		*v = got.Uint != 0
	}
}

func (f *fields) text(num int, v *string) {
	if !f.reading {
		f.buf = wire.AppendString(f.buf, num, *v)
	} else if got, ok := f.find(num); ok {
		*v = string(got.Bytes)
	}
}

// bytes carries a slice, copied when it is read.
func (f *fields) bytes(num int, v *[]byte) {
	if !f.reading {
		f.buf = wire.AppendBytes(f.buf, num, *v)
	} else if got, ok := f.find(num); ok {
		*v = append([]byte(nil), got.Bytes...)
	}
}

// fd carries a descriptor, whose number stays; negative is none.
func (f *fields) fd(num int, fd *int) {
	carried := *fd + 1
	integer(f, num, &carried)
	if f.reading {
		*fd = carried - 1
	}
	if carried > 0 && carried < 1<<20 {
		f.fds = append(f.fds, *fd)
	} else {
		*fd = -1
	}
}

// fdOrZero is fd for a field in which zero is none.
func (f *fields) fdOrZero(num int, fd *int) {
	n := *fd
	if n == 0 {
		n = -1
	}
	f.fd(num, &n)
	*fd = max(0, n)
}

// coded is a part that has an encoding of its own.
type coded interface {
	Append([]byte) []byte
	Parse([]byte) error
}

func (f *fields) message(num int, v coded) {
	if !f.reading {
		var mark int
		f.buf, mark = wire.Open(f.buf, num)
		f.buf = v.Append(f.buf)
		wire.Shut(f.buf, mark)
	} else if got, ok := f.find(num); ok {
		if err := v.Parse(got.Bytes); err != nil {
			f.err = err
		}
	}
}

// record carries a part of fields.
func (f *fields) record(num int, part func(*fields)) {
	if !f.reading {
		f.sub(num, nil, part)
	} else if got, ok := f.find(num); ok {
		f.sub(num, got.Bytes, part)
	}
}

// list carries one record for each element.
func list[T any](f *fields, num int, all *[]*T, part func(*fields, *T)) {
	if !f.reading {
		for _, v := range *all {
			f.sub(num, nil, func(f *fields) { part(f, v) })
		}
		return
	}
	f.each(num, func(got wire.Field) {
		v := new(T)
		f.sub(num, got.Bytes, func(f *fields) { part(f, v) })
		*all = append(*all, v)
	})
}

func (f *fields) sub(num int, buf []byte, part func(*fields)) {
	if !f.reading {
		var mark int
		f.buf, mark = wire.Open(f.buf, num)
		part(f)
		wire.Shut(f.buf, mark)
		return
	}
	g := fields{reading: true, buf: buf}
	part(&g)
	f.fds = append(f.fds, g.fds...)
	if f.err == nil {
		f.err = g.err
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
