package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// pinAll binds the namespaces of flags from a /proc/…/ns directory onto files in dir.
func pinAll(dir, proc string, flags int) error {
	for _, k := range kinds {
		if flags&k.flag == 0 {
			continue
		}
		path := filepath.Join(dir, k.name)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600)
		if err != nil {
			return fmt.Errorf("pin %s namespace: %w", k.name, err)
		}
		f.Close()
		if err := unix.Mount(filepath.Join(proc, k.name), path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("pin %s namespace at %s: %w", k.name, path, err)
		}
	}
	return nil
}

func pinnedPaths(dir string, flags int) pod.Namespaces {
	at := func(flag int, name string) string {
		if flags&flag == 0 {
			return ""
		}
		return filepath.Join(dir, name)
	}
	return pod.Namespaces{
		User: at(unix.CLONE_NEWUSER, "user"),
		Net:  at(unix.CLONE_NEWNET, "net"),
		IPC:  at(unix.CLONE_NEWIPC, "ipc"),
		UTS:  at(unix.CLONE_NEWUTS, "uts"),
	}
}

// removePins unmounts and removes every pin in dir and dir itself. It goes on after
// an error. Removing the file also takes the pin out of other mount namespaces that
// hold a copy of the mount (Linux 3.18, detach_mounts), which would keep it alive.
func removePins(dir string) error {
	var errs []error
	for _, k := range kinds {
		errs = append(errs, removePin(filepath.Join(dir, k.name)))
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// maxStacked bounds how many mounts on one pin are believed. More than one is there
// only when something else mounted over it.
const maxStacked = 16

func removePin(path string) error {
	for range maxStacked {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // no mount, or no file
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
