package logfile

import (
	"bytes"
	"strings"
	"syscall"
	"unsafe"
)

// Lost is what a writer that was killed had in hand.
type Lost struct {
	// Handover is the writer at its last checkpoint; its descriptors are not used.
	Handover
	// Size and Inode are those of the file at the checkpoint.
	Size  int64
	Inode uint64
	// Stream is the stream that was being written, 0 for stdout and 1 for stderr, -1
	// for none, and Data what had been read from it since.
	Stream int
	Data   []byte
}

// maxBehind bounds the records that are looked through behind a checkpoint, in bytes:
// a read of line ends alone becomes forty times as long.
const maxBehind = 16 << 20

// Recover goes on where a killed writer stopped: what of l.Data stands in the file is
// not written again, the beginning of a record at the file's end is cut off, and the
// rest is written. The file is found by its inode in the log's directory, also when a
// rotation had renamed it; when it is gone, the path is opened as OpenBelow does.
func Recover(path string, trusted, maxLine int, l *Lost, now int64, stdout, stderr *Stream) (*Writer, error) {
	streams := [...]*Stream{stdout, stderr}
	probe := &Writer{path: path, trusted: trusted, dir: -1, fd: -1}
	h := l.Handover
	if path != "" {
		if err := probe.openDir(); err != nil {
			return nil, err
		}
		found, err := probe.find(l.Inode)
		if err != nil {
			return nil, err
		}
		h.Dir, h.FD = probe.dir, found
	}
	var pending []byte
	if l.Stream >= 0 {
		pending = append(append(pending, h.Tails[l.Stream]...), l.Data...)
		h.Tails[l.Stream] = nil
		if h.FD >= 0 && inodeOf(h.FD) == l.Inode {
			pending = h.skipWritten(l.Size, l.Stream, streams[l.Stream].name, pending)
		}
		h.BytesIn += uint64(len(l.Data)) - uint64(len(pending)) // Write counts them
	} else if h.FD >= 0 && inodeOf(h.FD) == l.Inode {
		cutTorn(h.FD, l.Size)
	}
	w, err := Resume(path, trusted, maxLine, &h, stdout, stderr)
	if err == nil && l.Stream >= 0 && len(pending) > 0 {
		w.Write(streams[l.Stream], now, pending)
	}
	return w, err
}

// find opens the file of that inode in the directory, or the path when there is none.
func (w *Writer) find(inode uint64) (int, error) {
	if name := w.nameOf(inode); name != "" {
		fd, err := syscall.Openat(w.dir, name, syscall.O_WRONLY|syscall.O_APPEND|syscall.O_NOFOLLOW|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
		if err == nil && inodeOf(fd) == inode {
			return fd, nil
		}
		if err == nil {
			syscall.Close(fd)
		}
	}
	return w.openFile(false)
}

// nameOf is the name in the directory of the file with that inode, empty for none.
func (w *Writer) nameOf(inode uint64) string {
	dir, err := syscall.Openat(w.dir, ".", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer syscall.Close(dir)
	buf := make([]byte, 8192)
	for {
		n, err := syscall.ReadDirent(dir, buf)
		if err != nil || n <= 0 {
			return ""
		}
		for at := 0; at < n; {
			entry := (*syscall.Dirent)(unsafe.Pointer(&buf[at]))
			name := buf[at+int(unsafe.Offsetof(entry.Name)) : at+int(entry.Reclen)]
			if entry.Ino == inode {
				return string(name[:max(0, bytes.IndexByte(name, 0))])
			}
			at += int(entry.Reclen)
		}
	}
}

// skipWritten cuts off what of pending stands in records behind size, and the torn end
// of the file. A record that is not the stream's next text is a marker, or follows
// lines that were left out on purpose.
func (h *Handover) skipWritten(size int64, stream int, name string, pending []byte) []byte {
	text := behind(h.FD, size)
	h.BytesOut += uint64(len(text))
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte{'\n'})
		text = rest
		if len(line) < headLen || strings.TrimSpace(string(line[stampLen:stampLen+len(" stdout ")])) != name {
			continue
		}
		tag, content := line[headLen-2], line[headLen:]
		for at := 0; at <= len(pending); {
			left := pending[at:]
			if bytes.HasPrefix(left, content) && (tag == 'P' || len(left) == len(content) || left[len(content)] == '\n') {
				pending = left[len(content):]
				if h.Open[stream] = tag == 'P'; tag == 'P' {
					h.Partials++
				} else {
					pending = pending[min(1, len(pending)):]
					h.Lines++
				}
				break
			}
			next := bytes.IndexByte(left, '\n')
			if next < 0 {
				break
			}
			at += next + 1
		}
	}
	return pending
}

// behind is what stands in the file behind size, whole records only: a torn end is
// cut off the file.
func behind(fd int, size int64) []byte {
	end := cutTorn(fd, size)
	if end <= size || end-size > maxBehind {
		return nil
	}
	text := make([]byte, end-size)
	if n, err := readFrom(fd, text, size); err != nil || n < len(text) {
		return nil
	}
	return text
}

// cutTorn cuts the beginning of a record off the end of the file, no further than
// size, and returns the file's size then.
func cutTorn(fd int, size int64) int64 {
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || st.Size <= size {
		return size
	}
	for end := st.Size; end > size; {
		buf := make([]byte, min(64<<10, end-size))
		n, err := readFrom(fd, buf, end-int64(len(buf)))
		if err != nil || n < len(buf) {
			return size
		}
		if i := bytes.LastIndexByte(buf, '\n'); i >= 0 {
			whole := end - int64(len(buf)) + int64(i) + 1
			if whole < st.Size && syscall.Ftruncate(fd, whole) != nil {
				return size
			}
			return whole
		}
		end -= int64(len(buf))
	}
	syscall.Ftruncate(fd, size)
	return size
}

// readFrom reads from a file that is open for writing only.
func readFrom(fd int, buf []byte, offset int64) (n int, err error) {
	name := append([]byte("/proc/self/fd/"), make([]byte, 0, 12)...)
	own, err := syscall.Open(string(appendUint(name, uint64(fd))), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(own)
	for n < len(buf) {
		k, err := syscall.Pread(own, buf[n:], offset+int64(n))
		if err != nil || k == 0 {
			return n, err
		}
		n += k
	}
	return n, nil
}

func inodeOf(fd int) uint64 {
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}
