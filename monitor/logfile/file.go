package logfile

import (
	"bytes"
	"strings"
	"syscall"
	"unsafe"
)

const (
	oPath      = 0x200000 // O_PATH, which package syscall does not name
	sysOpenat2 = 437      // on every architecture
)

// openBeneath opens the relative path name without following any link on the way
// (openat2(2), Linux 5.6; older kernels are not served).
func openBeneath(dir int, name string, flags uint64) (int, error) {
	const noMagicLinks, noSymlinks, beneath = 0x02, 0x04, 0x08
	how := struct{ flags, mode, resolve uint64 }{flags, 0, noMagicLinks | noSymlinks | beneath}
	path, err := syscall.BytePtrFromString(name)
	if err != nil {
		return -1, err
	}
	for {
		fd, _, e := syscall.Syscall6(sysOpenat2, uintptr(dir), uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
		if e == 0 {
			return int(fd), nil
		}
		if e != syscall.EINTR && e != syscall.EAGAIN { // EAGAIN: a rename went on meanwhile
			return -1, e
		}
	}
}

// openDir opens the directory of the path. It is kept, so that a later exchange of a
// directory on the way by a link does not lead a rotation elsewhere.
func (w *Writer) openDir() error {
	i := strings.LastIndexByte(w.path, '/')
	if i < 0 || i == len(w.path)-1 {
		return syscall.EINVAL
	}
	top, below := w.path[:i+1], ""
	if w.trusted > 0 && w.trusted <= i {
		top, below = w.path[:w.trusted], strings.Trim(w.path[w.trusted:i], "/")
	}
	const flags = oPath | syscall.O_DIRECTORY | syscall.O_CLOEXEC
	fd, err := syscall.Open(top, flags, 0)
	if err == nil && below != "" {
		above := fd
		fd, err = openBeneath(above, below, flags)
		syscall.Close(above)
	}
	if err != nil {
		return err
	}
	if w.dir >= 0 {
		syscall.Close(w.dir)
	}
	w.dir = fd
	return nil
}

// openFile opens or creates the file; with room, a disk too full for a new file's
// first records is an error. On an error no file is left that was not there.
func (w *Writer) openFile(room bool) (int, error) {
	name := w.path[strings.LastIndexByte(w.path, '/')+1:]
	const flags = syscall.O_WRONLY | syscall.O_APPEND | syscall.O_NOFOLLOW | syscall.O_CLOEXEC | syscall.O_NONBLOCK
	created := true
	fd, err := syscall.Openat(w.dir, name, flags|syscall.O_CREAT|syscall.O_EXCL, 0o640)
	if err == syscall.EEXIST {
		created = false
		fd, err = syscall.Openat(w.dir, name, flags, 0)
	}
	if err != nil {
		return -1, err
	}
	var st syscall.Stat_t
	err = syscall.Fstat(fd, &st)
	if err == nil && st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		err = syscall.EINVAL
	}
	if err == nil && created && room {
		const keepSize = 1
		if err = syscall.Fallocate(fd, keepSize, 0, 4096); err == syscall.EOPNOTSUPP || err == syscall.ENOSYS {
			err = nil
		}
	}
	if err != nil {
		syscall.Close(fd)
		if created {
			syscall.Unlinkat(w.dir, name)
		}
		return -1, err
	}
	return fd, nil
}

// Reopen opens the path anew and goes on there; the old file ends with a whole
// record. On an error the old file stays in use. A file that is there already is
// appended to, never truncated.
func (w *Writer) Reopen() error {
	if w.fd < 0 {
		return nil
	}
	w.enter()
	defer w.leave()
	var st syscall.Stat_t
	if err := syscall.Fstat(w.dir, &st); err != nil || st.Nlink == 0 { // the directory was removed: look for a new one
		if err := w.openDir(); err != nil {
			return err
		}
	}
	fd, err := w.openFile(true)
	if err != nil {
		return err
	}
	syscall.Close(w.fd)
	w.fd, w.torn = fd, false
	w.Reopens++
	return nil
}

// flush writes the batch. What the disk does not take is dropped and counted.
func (w *Writer) flush() {
	batch := w.out
	w.out = w.out[:0]
	if len(batch) == 0 {
		return
	}
	if w.torn || w.lost != [2]lost{} {
		w.resume()
	}
	n, errno := w.writeAll(batch)
	w.BytesOut += uint64(n)
	if errno == 0 {
		return
	}
	w.Errors++
	w.LastError = errno
	whole := bytes.LastIndexByte(batch[:n], '\n') + 1
	if whole < n {
		w.cutOff(n - whole)
	}
	w.drop(batch[whole:])
}

// writeAll does not tell the Go scheduler that it may block: that would move the
// writer to another thread whenever a disk takes more than 20 µs.
func (w *Writer) writeAll(data []byte) (n int, errno syscall.Errno) {
	for n < len(data) {
		w.enter()
		k, _, e := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(w.fd), uintptr(unsafe.Pointer(&data[n])), uintptr(len(data)-n))
		w.leave()
		if e == syscall.EINTR {
			continue
		}
		if e != 0 {
			return n, e
		}
		n += int(k)
	}
	return n, 0
}

// cutOff removes the last n bytes of the file, the beginning of a record.
func (w *Writer) cutOff(n int) {
	w.enter()
	defer w.leave()
	var st syscall.Stat_t
	if err := syscall.Fstat(w.fd, &st); err == nil && syscall.Ftruncate(w.fd, st.Size-int64(n)) == nil {
		w.BytesOut -= uint64(n)
		return
	}
	w.torn = true
}

// drop counts records that were not written, which record had counted as written.
func (w *Writer) drop(records []byte) {
	for len(records) > 0 {
		end := bytes.IndexByte(records[headLen:], '\n') + headLen + 1
		n := uint64(end - headLen - 1)
		from := &w.lost[0]
		if records[stampLen+len(" std")] == 'e' {
			from = &w.lost[1]
		}
		if records[headLen-2] == 'F' {
			n++
			from.lines++
			w.DroppedLines++
			w.Lines--
		} else {
			w.Partials--
		}
		from.bytes += n
		w.Dropped += n
		records = records[end:]
	}
}

// resume writes, before the first batch after drops, a record of each stream that lost
// something. Where the beginning of a line stands in the file it is ended by it:
//
//	TIME stderr F [vitrine: N bytes in M lines are missing here: errno E]
func (w *Writer) resume() {
	var room [512]byte
	mark := room[:0]
	if w.torn {
		mark = append(mark, '\n')
	}
	for i, name := range [...]string{" stdout", " stderr"} {
		l := w.lost[i]
		if l.bytes == 0 {
			continue
		}
		mark = append(append(mark, w.text[:]...), name...)
		mark = append(mark, " F [vitrine: "...)
		mark = appendUint(mark, l.bytes)
		mark = append(mark, " bytes in "...)
		mark = appendUint(mark, l.lines)
		mark = append(mark, " lines are missing here: errno "...)
		mark = appendUint(mark, uint64(w.LastError))
		mark = append(mark, "]\n"...)
	}
	if w.writeMark(mark) {
		w.torn, w.lost = false, [2]lost{}
	}
}

// writeMark writes records of our own, whole or not at all.
func (w *Writer) writeMark(mark []byte) bool {
	n, errno := w.writeAll(mark)
	w.BytesOut += uint64(n)
	if errno != 0 && n > 0 {
		w.cutOff(n)
	}
	return errno == 0
}

func appendUint(buf []byte, v uint64) []byte {
	var digits [20]byte
	i := len(digits)
	for {
		i--
		digits[i] = byte('0' + v%10)
		if v /= 10; v == 0 {
			return append(buf, digits[i:]...)
		}
	}
}
