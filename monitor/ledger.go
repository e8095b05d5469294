package monitor

import (
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/vitrine-runtime/vitrine/monitor/logfile"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
)

// ledger is what a monitor leaves behind when it is killed: a file in the container's
// directory, mapped and shared, so that each store is in it at once and without a
// system call. State directories lie on tmpfs; it survives processes, not the kernel.
//
//	0        words     magic, control word, base in use, lengths, two checkpoints
//	4 KiB    base      two encoded states (see state.go), one of them in force
//	132 KiB  read      what the read under way puts into memory
//	196 KiB  tails     two checkpoints × two streams, a line's limit each
//
// The unused parts are holes. Each read of the container's output goes so:
//
//	control word ← this stream, n bytes (FIONREAD: there are at least as many, and
//	               nobody else reads); the first bytes of the buffer ← a mark
//	read n bytes into the buffer          pipe ► ledger
//	records appended to the log           ledger ► log file
//	control word ← the other checkpoint, which holds the log's size and what is
//	               kept of unended lines, and no read
//
// Whoever finds a read under way knows from the mark whether the bytes left the pipe,
// and from the records behind the log's size at the checkpoint which of them reached
// the log: no byte is lost and none is written twice, wherever the monitor died. The
// mark is of bytes that UTF-8 never has; reads shorter than it, of other data, can be
// mistaken for not done with a probability of 1 : 256 per byte.
type ledger struct {
	m     *monitor
	fd    int // -1: there is none, and a monitor's death loses what it had in hand
	file  []byte
	words []uint64
}

const (
	ledgerMagic = 0x76697472_6a726e01 // the last byte is the layout's version

	baseOffset  = 4 << 10
	baseSize    = 64 << 10
	readOffset  = baseOffset + 2*baseSize
	tailsOffset = readOffset + scratchSize

	// Words: their numbers.
	wordMagic, wordControl, wordBase = 0, 1, 2 // wordBase: 0 none, 1 or 2
	wordBaseLen                      = 3       // and 4
	checkpointOffset                 = 512     // in bytes; checkpointSize each
	checkpointSize                   = 512
)

// The control word: bit 0 is the checkpoint in force, bits 8 to 15 the stream being
// worked on plus one, bits 32 to 63 the bytes being read.
func underWay(stream int, n int) uint64 { return uint64(stream+1)<<8 | uint64(n)<<32 }

var mark = [16]byte{0xf9, 0xfd, 0xf8, 0xff, 0xfa, 0xfc, 0xfe, 0xfb, 0xf8, 0xfe, 0xff, 0xf9, 0xfc, 0xfa, 0xfd, 0xfb}

func (j *ledger) size() int { return tailsOffset + 4*j.maxTail() }

func (j *ledger) maxTail() int {
	n := j.m.config.LogMaxLine
	if n <= 0 {
		n = logfile.DefaultMaxLine
	}
	return (min(n, logfile.MaxMaxLine) + 4095) &^ 4095
}

// create begins a ledger in the working directory. Without one the monitor works.
func (j *ledger) create() {
	fd, err := syscall.Open(wire.LedgerFile, syscall.O_RDWR|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0o600)
	if err == nil {
		j.fd = fd
		if err = syscall.Ftruncate(fd, int64(j.size())); err == nil {
			err = j.open(fd, j.size())
		}
	}
	if err != nil {
		complain("ledger", err)
		closeFD(&j.fd)
		return
	}
	j.words[wordMagic] = ledgerMagic
}

// open maps the ledger behind fd.
func (j *ledger) open(fd, size int) error {
	file, err := mapFile(fd, size)
	if err != nil {
		return err
	}
	j.file = file
	j.words = unsafe.Slice((*uint64)(unsafe.Pointer(&file[0])), baseOffset/8)
	return nil
}

// keep writes the monitor's state down as it is now.
func (j *ledger) keep() {
	if j.file == nil {
		return
	}
	if j.m.guard.away {
		j.m.guard.keep = true
		return
	}
	state, _ := j.m.encodeState()
	if len(state) > baseSize {
		complain("ledger", syscall.EFBIG)
		return
	}
	next := j.words[wordBase]&1 + 1 // 0 → 1 → 2 → 1
	copy(j.file[baseOffset+int(next-1)*baseSize:], state)
	j.words[wordBaseLen+next-1] = uint64(len(state))
	j.begin(-1, 0)
	j.done()
	atomic.StoreUint64(&j.words[wordBase], next)
}

// base is the state last kept; nil when there is none.
func (j *ledger) base() []byte {
	at := j.words[wordBase]
	if j.words[wordMagic] != ledgerMagic || at < 1 || at > 2 || j.words[wordBaseLen+at-1] > baseSize {
		return nil
	}
	from := baseOffset + int(at-1)*baseSize
	return j.file[from : from+int(j.words[wordBaseLen+at-1])]
}

// read reads from the stream what is there. Nothing for now is EAGAIN.
func (j *ledger) read(s *stream) ([]byte, syscall.Errno) {
	if j.file == nil || j.m.guard.away { // what is read then is dropped
		n, e := read(s.fd, j.m.scratch)
		return j.m.scratch[:n], e
	}
	var there int32
	ioctl(s.fd, syscall.TIOCINQ, unsafe.Pointer(&there)) // FIONREAD by its other name
	// One byte is asked for when there seems to be nothing: the end must be noticed.
	want := max(1, min(int(there), scratchSize))
	buf := j.file[readOffset : readOffset+want]
	copy(buf, mark[:])
	j.begin(s.index(), want)
	n, e := read(s.fd, buf)
	if n < want {
		j.begin(s.index(), n)
	}
	return buf[:n], e
}

// begin says that the stream is being worked on, with n bytes on their way out of it.
func (j *ledger) begin(stream, n int) {
	if j.file != nil && !j.m.guard.away {
		atomic.StoreUint64(&j.words[wordControl], j.words[wordControl]&1|underWay(stream, n))
	}
}

// done makes a checkpoint: all that was read stands in the log or in the checkpoint.
func (j *ledger) done() {
	if j.file == nil || j.m.log == nil || j.m.guard.away {
		return
	}
	h := j.m.log.Handover(j.m.streams[0].lines, j.m.streams[1].lines)
	next := j.words[wordControl]&1 ^ 1
	var st syscall.Stat_t
	if h.FD >= 0 {
		syscall.RawSyscall(syscall.SYS_FSTAT, uintptr(h.FD), uintptr(unsafe.Pointer(&st)), 0)
	}
	c := j.checkpoint(int(next))
	c.size, c.inode, c.last, c.lostBytes, c.lostLines = st.Size, st.Ino, h.Last, h.LostBytes, h.LostLines
	c.torn, c.open, c.lastError, c.limits = h.Torn, h.Open, uint64(h.LastError), h.Limits
	for i, v := range logCounters(&h) {
		c.counters[i] = *v
	}
	for i, v := range limitCounters(&h) {
		c.counters[8+i] = *v
	}
	for i, tail := range h.Tails {
		c.tails[i] = uint64(copy(j.tail(int(next), i), tail))
	}
	atomic.StoreUint64(&j.words[wordControl], next)
}

// checkpoint is the state of the log between two reads, laid over the ledger: fields
// are only ever added at its end.
type checkpoint struct {
	size                 int64 // of the log file
	inode                uint64
	last                 int64
	lostBytes, lostLines [2]uint64
	lastError            uint64
	tails                [2]uint64 // their lengths
	counters             [24]uint64
	torn                 bool
	open                 [2]bool
	limits               [2]logfile.LimitState
}

func (j *ledger) checkpoint(n int) *checkpoint {
	return (*checkpoint)(unsafe.Pointer(&j.file[checkpointOffset+n*checkpointSize]))
}

// handover is what the checkpoint in force says of the log writer, without its
// descriptors, with the size and the number of the file.
func (j *ledger) handover() (h logfile.Handover, size int64, inode uint64, err error) {
	now := int(j.words[wordControl] & 1)
	c := j.checkpoint(now)
	h = logfile.Handover{Dir: -1, FD: -1, Last: c.last, Torn: c.torn, LostBytes: c.lostBytes, LostLines: c.lostLines, Open: c.open, Limits: c.limits}
	h.LastError = syscall.Errno(c.lastError)
	for i, v := range logCounters(&h) {
		*v = c.counters[i]
	}
	for i, v := range limitCounters(&h) {
		*v = c.counters[8+i]
	}
	for i, n := range c.tails {
		if n > uint64(j.maxTail()) {
			return h, 0, 0, wire.ErrMalformed
		}
		h.Tails[i] = j.tail(now, i)[:n]
	}
	return h, c.size, c.inode, nil
}

// inHand is the stream that was being worked on, -1 for none, with the bytes that had
// left its pipe.
func (j *ledger) inHand() (stream int, data []byte) {
	control := j.words[wordControl]
	stream, n := int(control>>8&0xff)-1, int(control>>32)
	if stream < 0 || stream > 1 || n > scratchSize {
		return -1, nil
	}
	data = j.file[readOffset : readOffset+n]
	if k := min(n, len(mark)); string(data[:k]) == string(mark[:k]) {
		return stream, nil
	}
	return stream, data
}

// tail is the room for the stream's tail in a checkpoint.
func (j *ledger) tail(checkpoint, stream int) []byte {
	n := j.maxTail()
	from := tailsOffset + (2*checkpoint+stream)*n
	return j.file[from : from+n]
}

// release gives back the memory of what is not needed while nothing happens.
func (j *ledger) release() {
	if j.file == nil {
		return
	}
	const remove = 9 // MADV_REMOVE: a hole in the file
	syscall.Madvise(j.file[readOffset:readOffset+scratchSize], remove)
	now := int(j.words[wordControl] & 1)
	for i := range 2 {
		syscall.Madvise(j.tail(1-now, i), remove)
		if len(j.m.streams[i].lines.Tail()) == 0 {
			syscall.Madvise(j.tail(now, i), remove)
		}
	}
}
