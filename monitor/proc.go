package monitor

import (
	"bytes"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// process is what /proc/PID/stat says.
type process struct {
	pid, parent, session int
	flags                uint64
	began                uint64 // in clock ticks since boot: with the pid, an identity
}

// pfForkNoExec is set in a process's flags from its fork to its first execve.
const pfForkNoExec = 0x40

// pad is where files of /proc are read: one page for a process's stat, one for its
// cgroups, two for member lists, the rest for directories. It is mapped, so that it can be given back, and not on
// the stack, because the stack of a monitor shall not grow.
var pad = mapBuffer(32 << 10)

// look reads /proc/PID/stat; ok is false when there is no such process.
func look(pid int) (p process, ok bool) {
	text := readSmall(procPath(pid, "/stat"), pad[:4096])
	end := strings.LastIndexByte(text, ')') // the name before it may contain anything
	if end < 0 {
		return p, false
	}
	p.pid = pid
	rest := text[end+1:]
	for field := 2; rest != ""; field++ {
		var word string
		word, rest, _ = strings.Cut(rest, " ")
		switch field {
		case 4:
			p.parent = int(number(word))
		case 6:
			p.session = int(number(word))
		case 9:
			p.flags = number(word)
		case 22:
			p.began = number(word)
			return p, true
		}
	}
	return p, false
}

// pidNamespace is the inode number of the process's pid namespace, 0 when it is gone.
func pidNamespace(pid int) uint64 {
	fd, e := procPath(pid, "/ns/pid").open(oPath)
	if e != 0 {
		return 0
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}

// number is the value of decimal digits, 0 for anything else.
func number(text string) (n uint64) {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0
		}
		n = n*10 + uint64(text[i]-'0')
	}
	return n
}

// path is a path for openPath, built in a buffer of its own.
type path struct {
	text [1024]byte
	n    int
}

// paths is the one path in use: package syscall would allocate a copy of every string.
var paths path

func (p *path) add(text string) *path {
	p.n += copy(p.text[p.n:len(p.text)-1], text)
	return p
}

func (p *path) addInt(n int) *path {
	p.n += len(strconv.AppendInt(p.text[p.n:p.n:len(p.text)-1], int64(n), 10))
	return p
}

func newPath(text string) *path {
	paths.n = 0
	return paths.add(text)
}

func procPath(pid int, file string) *path { return newPath("/proc/").addInt(pid).add(file) }

func (p *path) open(flags int) (int, syscall.Errno) {
	p.text[p.n] = 0
	dir := -100 // AT_FDCWD
	fd, _, e := syscall.Syscall6(syscall.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&p.text)), uintptr(flags|syscall.O_CLOEXEC), 0, 0, 0)
	return int(fd), e
}

// readSmall is the content of a small file as far as it fits into buf, which it aliases.
func readSmall(file *path, buf []byte) string {
	fd, e := file.open(syscall.O_RDONLY)
	if e != 0 {
		return ""
	}
	defer syscall.Close(fd)
	n := 0
	for n < len(buf) {
		k, _ := read(fd, buf[n:])
		if k == 0 {
			break
		}
		n += k
	}
	return unsafe.String(unsafe.SliceData(buf), n)
}

// maxGroup bounds how much of one cgroup's process list is read, in bytes.
const maxGroup = 4 << 20

// cgroupOf is the directory of a cgroup that holds pid and not this process, empty
// when there is none: it is where a container's processes are found.
func cgroupOf(pid int) string {
	for line := range strings.SplitSeq(readSmall(procPath(pid, "/cgroup"), pad[4096:8192]), "\n") {
		_, rest, _ := strings.Cut(line, ":")
		controllers, path, ok := strings.Cut(rest, ":")
		if !ok || path == "/" || strings.Contains(path, "/..") {
			continue
		}
		controllers = strings.TrimPrefix(controllers, "name=")
		for _, root := range [...]string{"/sys/fs/cgroup", "/sys/fs/cgroup/" + controllers, "/sys/fs/cgroup/unified"} {
			if members := groupMembers(root+path, nil); contains(members, pid) && !contains(members, syscall.Getpid()) {
				return root + path
			}
		}
	}
	return ""
}

func contains(pids []int, pid int) bool {
	for _, p := range pids {
		if p == pid {
			return true
		}
	}
	return false
}

// groupMembers appends the processes of the cgroup and of those below it.
func groupMembers(dir string, pids []int) []int {
	buf := pad[8192:16384]
	text := readSmall(newPath(dir).add("/cgroup.procs"), buf)
	for len(text) == len(buf) && len(buf) < maxGroup {
		buf = make([]byte, 4*len(buf))
		text = readSmall(newPath(dir).add("/cgroup.procs"), buf)
	}
	for line := range strings.SplitSeq(text, "\n") {
		if pid := int(number(line)); pid > 0 {
			pids = append(pids, pid)
		}
	}
	for _, name := range directories(dir) {
		pids = groupMembers(dir+"/"+name, pids)
	}
	return pids
}

// allProcesses are all that /proc shows.
func allProcesses() (pids []int) {
	for _, name := range directories("/proc") {
		if pid := int(number(name)); pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// directories are the names of the directories in dir.
func directories(dir string) (names []string) {
	fd, e := newPath(dir).open(syscall.O_RDONLY | syscall.O_DIRECTORY)
	if e != 0 {
		return nil
	}
	defer syscall.Close(fd)
	buf := pad[16<<10:]
	for {
		n, err := syscall.ReadDirent(fd, buf)
		if err != nil || n <= 0 {
			return names
		}
		for at := 0; at < n; {
			const directory = 4 // DT_DIR
			entry := (*syscall.Dirent)(unsafe.Pointer(&buf[at]))
			name := buf[at+int(unsafe.Offsetof(entry.Name)) : at+int(entry.Reclen)]
			at += int(entry.Reclen)
			if end := bytes.IndexByte(name, 0); end >= 0 {
				name = name[:end]
			}
			if entry.Type == directory && string(name) != "." && string(name) != ".." {
				names = append(names, string(name))
			}
		}
	}
}
