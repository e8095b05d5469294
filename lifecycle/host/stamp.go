package host

import "syscall"

// Stamp tells two builds at one path apart, by inode, size and time. Stamps are compared by ==.
type Stamp struct {
	inode uint64
	size  int64
	mtime syscall.Timespec
}

// StampOf is zero for what is not there.
func StampOf(path string) Stamp {
	var st syscall.Stat_t
	if syscall.Stat(path, &st) != nil {
		return Stamp{}
	}
	return Stamp{st.Ino, st.Size, st.Mtim}
}
