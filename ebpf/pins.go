package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	cebpf "github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// layout names the shape of the maps. What lies under another name belongs to another
// version of the daemon:
//
//	PinDir/                 a bpffs
//	  v7/
//	    containers          cgroup id → struct container
//	    last                struct last_key → struct record
//	    scenes              struct last_key → struct scene
//	    events, lost, settings, killed, last_kill, ran_out
//	    denials             struct denial_key → struct denial
//	    denial_uses         cgroup id → struct denial_use
//	    denied              layer → count, per CPU
//	    starts              cgroup id → struct start
//	    listeners           struct listener → cgroup id
//	    link-<tracepoint>   keeps the program attached
//	    built-<hash>        all of these are of this build; see resume
const layout = "v7"

// scratch is nobody's memory from one event to the next, and site that of one kill.
var pinned = []string{programsMapContainers, programsMapLast, programsMapEvents, programsMapLost, programsMapSettings, programsMapKilled, programsMapLastKill, programsMapRanOut, programsMapScratch, programsMapScenes, programsMapSite,
	programsMapDenials, programsMapDenialUses, programsMapDenied, programsMapStarts, programsMapListeners}

// openMaps takes over the pinned maps, or makes and pins them.
func openMaps(spec *cebpf.CollectionSpec, dir string) (map[string]*cebpf.Map, error) {
	maps := map[string]*cebpf.Map{}
	for _, name := range pinned {
		s := spec.Maps[name].Copy()
		s.Pinning = cebpf.PinByName
		m, err := cebpf.NewMapWithOptions(s, cebpf.MapOptions{PinPath: dir})
		if err != nil {
			for _, m := range maps {
				m.Close()
			}
			return nil, fmt.Errorf("map %s: %w", name, err)
		}
		maps[name] = m
	}
	return maps, nil
}

// ensureBPFFS makes dir and mounts a bpffs on it unless it lies in one.
func ensureBPFFS(dir string) error {
	if in, err := inBPFFS(filepath.Dir(dir)); err == nil && in {
		return os.MkdirAll(dir, 0o700)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("directory for pins: %w", err)
	}
	in, err := inBPFFS(dir)
	if err != nil || in {
		return err
	}
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("%w: mount bpffs on %s: %w", ErrUnavailable, dir, err)
	}
	return nil
}

func inBPFFS(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, fmt.Errorf("file system of %s: %w", dir, err)
	}
	return st.Type == unix.BPF_FS_MAGIC, nil
}

// Wipe detaches all programs pinned under dir, forgets their maps, and unmounts the
// bpffs that Open mounted there. It is no error if there is nothing.
func Wipe(dir string) error {
	in, err := inBPFFS(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !in {
		return err
	}
	if err := errors.Join(forgetOthers(dir), os.RemoveAll(filepath.Join(dir, layout))); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	if in, err := inBPFFS(filepath.Dir(dir)); err != nil || in {
		return err
	}
	if err := unix.Unmount(dir, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// forgetOthers detaches what daemons of other layouts left attached: nobody reads it, and
// the node would pay for it until its next boot.
func forgetOthers(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list pins: %w", err)
	}
	var errs []error
	for _, e := range entries {
		number, ours := strings.CutPrefix(e.Name(), "v")
		if _, err := strconv.Atoi(number); ours && err == nil && e.Name() != layout {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
