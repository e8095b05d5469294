package monitor

import (
	"syscall"

	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// spool keeps undelivered requests on disk, in frames:
//
//	length (4 bytes, little endian)  CRC-32C of the body (4 bytes)  body
//
// It is a file that is appended to and, once everything in it is delivered, removed.
type spool struct {
	fd     int // 0: not open
	size   int64
	offset int64 // of the next frame to deliver
	body   int64 // length of the frame that next returned
}

// spoolLimit bounds the spool, in bytes.
const spoolLimit = 256 << 10

const frameHead = 8

// append adds a request and reports whether there was room.
func (s *spool) append(body []byte) bool {
	if s.size+frameHead+int64(len(body)) > spoolLimit || len(body) == 0 {
		return false
	}
	if s.fd == 0 {
		fd, err := syscall.Open(wire.SpoolFile, syscall.O_RDWR|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return false
		}
		s.fd = fd
	}
	crc, n := wire.CRC(body), len(body)
	frame := append(make([]byte, 0, frameHead+n), byte(n), byte(n>>8), byte(n>>16), byte(n>>24), byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24))
	frame = append(frame, body...)
	if k, err := syscall.Pwrite(s.fd, frame, s.size); err != nil || k != len(frame) {
		syscall.Ftruncate(s.fd, s.size)
		return false
	}
	s.size += int64(len(frame))
	return true
}

// next is the first frame that is not yet delivered, nil when there is none.
func (s *spool) next() []byte {
	if s.fd == 0 || s.offset >= s.size {
		return nil
	}
	var head [frameHead]byte
	if n, err := syscall.Pread(s.fd, head[:], s.offset); err != nil || n != frameHead {
		return nil
	}
	n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16 | int(head[3])<<24
	if n <= 0 || s.offset+frameHead+int64(n) > s.size {
		return nil
	}
	body := make([]byte, n)
	if k, err := syscall.Pread(s.fd, body, s.offset+frameHead); err != nil || k != n {
		return nil
	}
	s.body = int64(n)
	return body
}

// done removes the frame that next returned; with the last one, the file.
func (s *spool) done() {
	s.offset += frameHead + s.body
	if s.offset >= s.size {
		syscall.Unlink(wire.SpoolFile)
		s.close()
	}
}

func (s *spool) close() {
	if s.fd != 0 {
		syscall.Close(s.fd)
	}
	*s = spool{}
}
