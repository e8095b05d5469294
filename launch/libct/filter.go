//go:build cgo && seccomp

package libct

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/seccomp/libseccomp-golang"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// The cache of compiled seccomp filters is a directory of files:
//
//	SeccompCache/             0700, the launcher's user's, else it is not used
//	└── HASH                  of the profile as libcontainer has it
//	      vitrine-filter 1\n
//	      HASH\n              of the line below, for torn writes and bad disks
//	      OFFER\n             package seccomp's
//
// The way of a filter: the launcher reads the file of the container's profile and puts the
// offer into the configuration that it gives to the init; the init's filter has exactly
// the offered rules, or is compiled there. What an init had to compile comes back
// over its log and is written into the cache. Exec sessions find the offer in the
// container's state. See docs/decisions/0002-seccomp-cache.md.
const cacheHeader = "vitrine-filter 1\n"

const (
	maxCached  = 256      // files; a cache that has more is emptied
	maxOffer   = 64 << 10 // bytes of a file
	filterMark = "vitrine: filter "
	begunMark  = "vitrine: seccomp"
)

// tellFilters makes the init tell when its filter begins and what it had to compile.
func tellFilters() {
	seccomp.Began = func() { logrus.Debug(begunMark) }
	seccomp.Compiled = func(o seccomp.Offer) { logrus.Debug(filterMark + o.SyscallName()) }
}

// offerFilter puts the compiled filter into the configuration, if the cache has it. Name is
// the profile's in the cache, empty without one. The returned function writes what the
// init had to compile instead; its error is only about the cache.
func offerFilter(config *configs.Config, cache string) (name string, keep func(compiled string) error) {
	keep = func(string) error { return nil }
	profile := config.Seccomp
	if profile == nil || cache == "" {
		return "", keep
	}
	key := *profile
	key.ListenerPath, key.ListenerMetadata = "", "" // the container's own, and no part of the program
	raw, err := json.Marshal(&key)
	if err != nil {
		return "", keep
	}
	sum := sha256.Sum256(raw)
	name = hex.EncodeToString(sum[:])
	path := filepath.Join(cache, name)
	if offer, err := readOffer(path); err == nil {
		// Any action but the default's makes libcontainer ask for the name's number.
		action := configs.Allow
		if profile.DefaultAction == configs.Allow {
			action = configs.Errno
		}
		profile.Syscalls = append([]*configs.Syscall{{Name: offer, Action: action}}, profile.Syscalls...)
	}
	return name, func(compiled string) error {
		if compiled == "" {
			return nil
		}
		return writeOffer(path, compiled)
	}
}

// readOffer reads a file of the cache. What others could have written is not read.
func readOffer(path string) (string, error) {
	if err := private(filepath.Dir(path)); err != nil {
		return "", err
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxOffer))
	if err != nil {
		return "", err
	}
	return parseOffer(raw)
}

// parseOffer is the inverse of formatOffer.
func parseOffer(raw []byte) (string, error) {
	rest, ok := bytes.CutPrefix(raw, []byte(cacheHeader))
	sum, rest, cut := bytes.Cut(rest, []byte("\n"))
	offer, ended := bytes.CutSuffix(rest, []byte("\n"))
	want := sha256.Sum256(offer)
	if !ok || !cut || !ended || string(sum) != hex.EncodeToString(want[:]) {
		return "", errors.New("cached filter is damaged")
	}
	return string(offer), nil
}

// formatOffer is a file's content.
func formatOffer(offer string) []byte {
	sum := sha256.Sum256([]byte(offer))
	return []byte(cacheHeader + hex.EncodeToString(sum[:]) + "\n" + offer + "\n")
}

// writeOffer writes a file of the cache beside and renames it.
func writeOffer(path, offer string) error {
	if _, err := seccomp.ParseOffer(offer); err != nil {
		return fmt.Errorf("cache filter: %w", err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cache filter: %w", err)
	}
	if err := private(dir); err != nil {
		return err
	}
	if files, err := os.ReadDir(dir); err == nil && len(files) >= maxCached {
		for _, f := range files {
			_ = os.Remove(filepath.Join(dir, f.Name()))
		}
	}
	file, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return fmt.Errorf("cache filter: %w", err)
	}
	_, err = file.Write(formatOffer(offer))
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return fmt.Errorf("cache filter: %w", err)
	}
	return nil
}

// private returns an error if others than this user may write into the directory: a filter
// from there would be theirs.
func private(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s is not a directory that only this user can write to", dir)
	}
	return nil
}
