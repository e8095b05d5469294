package monitor

import (
	"strings"
	"syscall"
)

// tail keeps the last words of a stream, for error messages.
type tail struct {
	m    *monitor
	fd   int // the stream, if nobody else reads it; -1
	text []byte
}

// tailSize is how much is kept, in bytes.
const tailSize = 2048

// keep remembers the end of data.
func (t *tail) keep(data []byte) {
	if len(data) > tailSize {
		data = data[len(data)-tailSize:]
	}
	if over := len(t.text) + len(data) - tailSize; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	t.text = append(t.text, data...)
}

// collect reads what is there. A nil tail is empty.
func (t *tail) collect() {
	if t == nil || t.fd < 0 {
		return
	}
	for range 16 {
		n, _ := read(t.fd, t.m.scratch)
		if n == 0 {
			return
		}
		t.keep(t.m.scratch[:n])
	}
}

// ready empties the stream, so that its writer never blocks.
func (t *tail) ready(uint32) {
	n, e := read(t.fd, t.m.scratch)
	if n > 0 {
		t.keep(t.m.scratch[:n])
	} else if e != syscall.EAGAIN {
		t.close()
	}
}

func (t *tail) close() {
	if t != nil && t.fd >= 0 {
		t.m.drop(&t.fd)
	}
}

// line is the last line that says something, without control characters.
func (t *tail) line() string {
	if t == nil {
		return ""
	}
	text := strings.TrimSpace(strings.ToValidUTF8(string(t.text), "?"))
	text = text[strings.LastIndexByte(text, '\n')+1:]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}
