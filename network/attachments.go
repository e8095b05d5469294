package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"
)

// attachments are the files below CacheDir/attachments, one per attachment that was
// begun and not yet ended. They are written beside their place and renamed; not
// synced, which would be most of an attach's time: after a power loss the leases of
// the embedded default are swept by GC, and other plugins get a GC of their own.
type attachments struct{ dir string }

// attachmentVersion is the layout of the files. A reader takes this one and those before it.
const attachmentVersion = 1

// maxAttachment bounds a file, in bytes: a conflist in base64 and the capabilities.
const maxAttachment = 4 << 20

// attachment is what ADD was run with and DEL must be run with.
type attachment struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	// NetNS is where the namespace was; it may be gone.
	NetNS    string         `json:"netns"`
	ConfList []byte         `json:"confList"`
	Builtin  bool           `json:"builtin,omitempty"`
	Args     [][2]string    `json:"args,omitempty"`
	Caps     map[string]any `json:"capabilities,omitempty"`
}

// runtimeConf is the attachment as libcni is told of it. A namespace that is gone
// is not named, as the CNI specification wants it for DEL.
func (a attachment) runtimeConf() *libcni.RuntimeConf {
	netns := a.NetNS
	if !isNamespace(netns) {
		netns = ""
	}
	return &libcni.RuntimeConf{ContainerID: a.ID, NetNS: netns, IfName: ifName, Args: a.Args, CapabilityArgs: a.Caps}
}

func (s attachments) put(a attachment) error {
	a.Version = attachmentVersion
	raw, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("remember attachment: %w", err)
	}
	path := filepath.Join(s.dir, a.ID)
	if err := os.WriteFile(path+newSuffix, raw, 0o600); err != nil {
		return fmt.Errorf("remember attachment: %w", err)
	}
	if err := os.Rename(path+newSuffix, path); err != nil {
		return fmt.Errorf("remember attachment: %w", err)
	}
	return nil
}

// get returns fs.ErrNotExist when there is none.
func (s attachments) get(id string) (attachment, error) {
	path := filepath.Join(s.dir, id)
	raw, err := readBounded(path, maxAttachment)
	if err != nil {
		return attachment{}, fmt.Errorf("read attachment: %w", err)
	}
	var a attachment
	if err := json.Unmarshal(raw, &a); err != nil {
		return attachment{}, fmt.Errorf("read attachment %s: %w", path, err)
	}
	if a.Version < 1 || a.Version > attachmentVersion || a.ID != id {
		return attachment{}, fmt.Errorf("read attachment %s: version %d of %q, this build knows 1 to %d", path, a.Version, a.ID, attachmentVersion)
	}
	return a, nil
}

func (s attachments) remove(id string) error {
	if err := os.Remove(filepath.Join(s.dir, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget attachment: %w", err)
	}
	return nil
}

// newSuffix marks a file that is being written. '~' occurs in no id.
const newSuffix = "~"

// ids returns the attachments' sandboxes.
func (s attachments) ids() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list attachments: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if checkID(e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// sweep removes what a crash left half-written. Nobody may write meanwhile.
func (s attachments) sweep() {
	entries, _ := os.ReadDir(s.dir) // a leftover costs nothing
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), newSuffix) {
			os.Remove(filepath.Join(s.dir, e.Name()))
		}
	}
}

// orphanWait bounds how long a DEL of a daemon that died is waited for. One that
// hangs longer is overtaken.
const orphanWait = 15 * time.Second

// lock takes the attachment's file for one DEL. The plugins inherit the lock and so
// hold it until they end, also when this daemon dies: the next one waits for them
// here instead of running the same DEL beside them. The caller closes the file. It
// is nil when the wait was in vain.
func (s attachments) lock(ctx context.Context, id string) (*os.File, error) {
	f, err := os.Open(filepath.Join(s.dir, id))
	if err != nil {
		return nil, fmt.Errorf("lock attachment: %w", err)
	}
	for deadline := time.Now().Add(orphanWait); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock attachment %s: %w", id, err)
		}
		if time.Now().After(deadline) {
			f.Close()
			return nil, nil
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("an earlier DEL of %s still runs: %w", id, context.Cause(ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
}
