package shim

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

const (
	taskService = "containerd.task.v2.Task"
	namespace   = "vitrine"
	// maxFrame is ttrpc's own bound of a message, in bytes.
	maxFrame = 4 << 20
	// dialBound is for a socket that is there; forever is for Wait.
	dialBound         = 10 * time.Second
	callBound         = 60 * time.Second
	forever           = time.Duration(0)
	typeRequest  byte = 1
	typeResponse byte = 2
	headerSize        = 10
	codeNotFound      = 5 // google.rpc.Code
)

// A remoteError is a shim's answer that is no success.
type remoteError struct {
	code    uint64
	message string
}

func (e *remoteError) Error() string { return e.message }

// message is a protobuf message under construction. Zero values are left out, as proto3 wants.
type message []byte

func (m message) text(num protowire.Number, s string) message {
	if s == "" {
		return m
	}
	return protowire.AppendString(protowire.AppendTag(m, num, protowire.BytesType), s)
}

func (m message) uint(num protowire.Number, n uint64) message {
	if n == 0 {
		return m
	}
	return protowire.AppendVarint(protowire.AppendTag(m, num, protowire.VarintType), n)
}

func (m message) bool(num protowire.Number, b bool) message {
	return m.uint(num, protowire.EncodeBool(b))
}

// anything is a google.protobuf.Any; nothing without a type.
func (m message) anything(num protowire.Number, url string, value []byte) message {
	if url == "" {
		return m
	}
	return m.text(num, string(message(nil).text(1, url).text(2, string(value))))
}

// fields calls each for every field with its bytes or its number.
func fields(b []byte, each func(num protowire.Number, text []byte, n uint64)) error {
	for len(b) > 0 {
		num, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		switch kind {
		case protowire.VarintType:
			n, size := protowire.ConsumeVarint(b)
			if size < 0 {
				return protowire.ParseError(size)
			}
			each(num, nil, n)
			b = b[size:]
		case protowire.BytesType:
			text, size := protowire.ConsumeBytes(b)
			if size < 0 {
				return protowire.ParseError(size)
			}
			each(num, text, 0)
			b = b[size:]
		default:
			if size = protowire.ConsumeFieldValue(num, kind, b); size < 0 {
				return protowire.ParseError(size)
			}
			b = b[size:]
		}
	}
	return nil
}

// number is the field num of a message.
func number(b []byte, want protowire.Number) (value uint64, err error) {
	err = fields(b, func(num protowire.Number, _ []byte, n uint64) {
		if num == want {
			value = n
		}
	})
	return value, err
}

// call asks the task service at address, on a connection of its own: calls are few, and
// one of them lasts as long as the container.
//
//	0       4        8    9     10
//	┌───────┬────────┬────┬─────┬─────────
//	│length │ stream │type│flags│ message      big endian
//	└───────┴────────┴────┴─────┴─────────
func call(address, method string, request message, bound time.Duration) ([]byte, error) {
	conn, err := net.DialTimeout("unix", strings.TrimPrefix(address, "unix://"), dialBound)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if bound != forever {
		if err := conn.SetDeadline(time.Now().Add(bound)); err != nil {
			return nil, err
		}
	}
	body := message(nil).text(1, taskService).text(2, method).text(3, string(request)).
		uint(4, uint64(bound.Nanoseconds())).
		text(5, string(message(nil).text(1, "containerd-namespace-ttrpc").text(2, namespace)))
	frame := make([]byte, headerSize, headerSize+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	binary.BigEndian.PutUint32(frame[4:], 1)
	frame[8] = typeRequest
	if _, err := conn.Write(append(frame, body...)); err != nil {
		return nil, err
	}
	return response(conn)
}

// response reads one answer.
func response(r io.Reader) (payload []byte, err error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[:])
	if size > maxFrame || header[8] != typeResponse {
		return nil, fmt.Errorf("the shim answered with %d bytes of type %d, want at most %d of type %d", size, header[8], maxFrame, typeResponse)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	failed := &remoteError{}
	var inner error
	err = fields(body, func(num protowire.Number, text []byte, _ uint64) {
		switch num {
		case 1:
			inner = fields(text, func(num protowire.Number, text []byte, n uint64) {
				switch num {
				case 1:
					failed.code = n
				case 2:
					failed.message = string(text)
				}
			})
		case 2:
			payload = text
		}
	})
	if err == nil {
		err = inner
	}
	if err == nil && failed.code != 0 {
		err = failed
	}
	return payload, err
}
