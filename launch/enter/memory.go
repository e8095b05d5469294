package enter

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// maxProgram bounds vitrine-enter in bytes.
const maxProgram = 1 << 20

// Seal returns the program at path in memory that nobody can write to: a container that
// finds it through /proc cannot change what the next one executes (CVE-2019-5736).
// os.ErrNotExist says that there is none. The caller closes it.
func Seal(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxProgram {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), maxProgram)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fd, err := Memory("vitrine-enter", raw)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "vitrine-enter")
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		file.Close()
		return nil, fmt.Errorf("seal %s: %w", path, err)
	}
	return file, nil
}

// Memory is data in a file that only its descriptor leads to; name is for whoever looks at
// descriptors. It can be executed and sealed, and is read from its beginning on. The caller
// closes it.
func Memory(name string, data []byte) (fd int, err error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err = unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3 every one can be executed
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	for at := 0; at < len(data); {
		n, err := unix.Pwrite(fd, data[at:], int64(at))
		if err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("write %s: %w", name, err)
		}
		at += n
	}
	return fd, nil
}
