package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// The files of a layer are not synced one by one: that would cost more than the pull.
// Before the first layer of a pull is linked, the layers' IDs are written to a file of
// their own and synced; some time after the pull one syncfs runs in the background and
// the file goes. A file that an earlier boot left therefore names exactly the layers
// that a power cut may have damaged.
//
//	STORAGE/unsynced/RANDOM      first line: boot id; then a layer ID per line

// settleDelay is how long after a pull its layers are synced. By then the kernel has
// written most of them by itself (dirty_expire_centisecs is 30 s everywhere), and the
// containers that the pull was for have started without a disk busy with syncing.
const settleDelay = 40 * time.Second

func (s *Store) journalDir() string { return filepath.Join(s.config.Root, "unsynced") }

// journal records that the layers are about to be made. The returned function makes
// them durable in the background.
func (s *Store) journal(layers []string) (settle func(), err error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(s.journalDir(), "")
	if err != nil {
		return nil, fmt.Errorf("write journal of layers: %w", err)
	}
	defer f.Close()
	if _, err = f.WriteString(boot + "\n" + strings.Join(layers, "\n") + "\n"); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(s.journalDir())
	}
	if err != nil {
		return nil, fmt.Errorf("write journal of layers: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return func() { s.settle(f.Name()) }, nil
}

// settle makes sure that a journal is dropped after its layers are on disk: when the
// delay is over, or with Close. One goroutine serves all journals that wait.
func (s *Store) settle(journal string) {
	s.unsettled.mu.Lock()
	defer s.unsettled.mu.Unlock()
	s.unsettled.journals = append(s.unsettled.journals, journal)
	if len(s.unsettled.journals) > 1 {
		return // somebody waits already
	}
	s.background(func(ctx context.Context) {
		select {
		case <-time.After(settleDelay):
		case <-ctx.Done():
		}
		s.unsettled.mu.Lock()
		journals := s.unsettled.journals
		s.unsettled.journals = nil
		s.unsettled.mu.Unlock()
		if syncFS(s.config.Root) != nil {
			return // the journals stay, and with them the doubt
		}
		for _, j := range journals {
			os.Remove(j)
		}
	})
}

// unsettled are journals whose layers the kernel may not have written.
type unsettled struct {
	mu       sync.Mutex // guards journals
	journals []string
}

// doubtful reads the journals: layers of earlier boots, and the files of all journals.
func (s *Store) doubtful() (layers map[string]bool, journals []string, err error) {
	boot, err := bootID()
	if err != nil {
		return nil, nil, err
	}
	entries, err := os.ReadDir(s.journalDir())
	if err != nil {
		return nil, nil, fmt.Errorf("read journals of layers: %w", err)
	}
	layers = map[string]bool{}
	for _, e := range entries {
		path := filepath.Join(s.journalDir(), e.Name())
		f, err := os.Open(path)
		if err != nil {
			return nil, nil, fmt.Errorf("read journals of layers: %w", err)
		}
		lines := bufio.NewScanner(f)
		if lines.Scan() && lines.Text() != boot {
			for lines.Scan() {
				if id, ok := imageID(lines.Text()); ok {
					layers[id] = true
				}
			}
		}
		f.Close()
		journals = append(journals, path)
	}
	return layers, journals, nil
}

func bootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("%w: boot id: %w", pod.ErrUnsupported, err)
	}
	return strings.TrimSpace(string(raw)), nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

// openMark says that a process uses the store, and in which boot.
func (s *Store) openMark() string { return filepath.Join(s.config.Root, "vitrine.open") }

// markOpen writes the mark and reports whether an earlier boot ended without Close. A
// mark without content is one: a power cut leaves of a file that was not synced its name.
func (s *Store) markOpen() (unclean bool, err error) {
	boot, err := bootID()
	if err != nil {
		return false, err
	}
	before, err := os.ReadFile(s.openMark())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	found := err == nil
	if found && string(before) == boot {
		return false, nil
	}
	f, err := os.OpenFile(s.openMark(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return found, err
	}
	defer f.Close()
	if _, err = f.WriteString(boot); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(s.config.Root)
	}
	return found, err
}
