package checkpoint

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
)

// A checkpoint is one tar archive per container, with the names that Podman and CRI-O have
// given to its parts, so that what reads theirs reads these:
//
//	config.dump       the container: id, name, image, runtime, times (JSON)
//	spec.dump         its OCI specification (JSON), annotations say pod and container
//	checkpoint/       criu's images
//	rootfs-diff.tar   files that it has created or changed in its root file system
//	deleted.files     files of the image that it has deleted (JSON, a list)
//	container.log     its log so far, a plain file
//	dump.log          criu's words
//	stats-dump        criu's statistics
const (
	configDump   = "config.dump"
	specDump     = "spec.dump"
	imagesDir    = "checkpoint"
	rootfsDiff   = "rootfs-diff.tar"
	deletedFiles = "deleted.files"
	containerLog = "container.log"
	dumpLog      = "dump.log"
	statsDump    = "stats-dump"
)

// dumpedConfig is config.dump, with the field names of Podman's and CRI-O's.
type dumpedConfig struct {
	ID              string    `json:"id"`
	Name            string    `json:"name"`
	RootfsImage     string    `json:"rootfsImage,omitempty"`
	RootfsImageRef  string    `json:"rootfsImageRef,omitempty"`
	RootfsImageName string    `json:"rootfsImageName,omitempty"`
	OCIRuntime      string    `json:"runtime,omitempty"`
	CreatedTime     time.Time `json:"createdTime"`
	CheckpointedAt  time.Time `json:"checkpointedTime"`
	Restored        bool      `json:"restored"`
}

// Taken is a container as it was at one moment. Sandbox, Container and Bundle are known before,
// the rest when it is paused.
type Taken struct {
	Sandbox   pod.Sandbox
	Container pod.Container
	// Bundle is the directory of the container's config.json.
	Bundle string
	// Runtime is what the archive calls the container's runtime.
	Runtime string
	At      time.Time
	Work    Work
}

// Changes reads what a container has changed in its root file system; see image.Store.
type Changes interface {
	SaveChanges(ctx context.Context, id string, to io.Writer) (deleted []string, err error)
}

// Save keeps in Work what belongs to the processes' state beside their memory. The
// container is paused: it is one moment. On an error Work is the owner's to remove.
func (s *Taken) Save(ctx context.Context, files Changes) (err error) {
	c := s.Container
	defer func() {
		if err != nil {
			err = fmt.Errorf("checkpoint container %s: %w", c.ID.Short(), err)
		}
	}()
	changes, err := os.OpenFile(s.Work.Changes(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	deleted, err := files.SaveChanges(ctx, string(c.ID), changes)
	if err = errors.Join(err, changes.Close()); err != nil {
		return err
	}
	if len(deleted) > 0 {
		if err := writeJSON(s.Work.deleted(), deleted); err != nil {
			return err
		}
	}
	if err := saveLog(c.LogPath, s.Work.log()); err != nil {
		return err
	}
	return s.saveSpec()
}

// saveLog copies the log as long as it is now. It is written by the monitor, which is not
// paused, but reads nothing from a container that is.
func saveLog(from, to string) error {
	if from == "" {
		return nil
	}
	log, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ignoreMissing(err)
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: log %s is no regular file", pod.ErrInvalid, from)
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(log, info.Size()))
	return errors.Join(err, out.Close())
}

// saveSpec keeps the bundle's specification, with annotations by which readers of
// CRI-O's archives find out whose container it is.
func (s *Taken) saveSpec() error {
	raw, err := os.ReadFile(filepath.Join(s.Bundle, "config.json"))
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(raw, &spec); err != nil {
		return fmt.Errorf("read specification: %w", err)
	}
	annotations, _ := spec["annotations"].(map[string]any)
	if annotations == nil {
		annotations = map[string]any{}
	}
	c, owner := s.Container, s.Sandbox.Config.GetMetadata()
	inJSON := func(v any) string { raw, _ := json.Marshal(v); return string(raw) } // maps and structs of strings
	for key, value := range map[string]string{
		"io.container.manager":             "vitrine",
		"io.kubernetes.cri-o.Metadata":     inJSON(map[string]any{"name": c.Config.GetMetadata().GetName(), "attempt": c.Config.GetMetadata().GetAttempt()}),
		"io.kubernetes.cri-o.Labels":       inJSON(c.Config.GetLabels()),
		"io.kubernetes.cri-o.Annotations":  inJSON(c.Config.GetAnnotations()),
		"io.kubernetes.cri-o.SandboxID":    string(s.Sandbox.ID),
		"io.kubernetes.cri-o.Created":      c.CreatedAt.Format(time.RFC3339Nano),
		"io.kubernetes.cri-o.LogPath":      c.LogPath,
		"io.kubernetes.cri-o.ImageName":    c.Image.User,
		"io.kubernetes.Container.name":     c.Config.GetMetadata().GetName(),
		"io.kubernetes.pod.name":           owner.GetName(),
		"io.kubernetes.pod.namespace":      owner.GetNamespace(),
		"io.kubernetes.pod.uid":            owner.GetUid(),
		"io.kubernetes.cri.container-name": c.Config.GetMetadata().GetName(),
	} {
		annotations[key] = value
	}
	spec["annotations"] = annotations
	return writeJSON(s.Work.spec(), spec)
}

func writeJSON(path string, value any) error {
	raw, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

// Write makes the archive, at an absolute path, of what criu and Save have left in Work: beside its
// place, and moved there when it is whole and synced. On an error there is none. It holds
// memory of processes: nobody but root may read it.
func (s *Taken) Write(ctx context.Context, archive string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write checkpoint of container %s: %w", s.Container.ID.Short(), err)
		}
	}()
	out, err := os.CreateTemp(filepath.Dir(archive), "."+filepath.Base(archive)+".partial-") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
	}()
	err = s.fill(ctx, tar.NewWriter(out))
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), archive)
}

func (s *Taken) fill(ctx context.Context, to *tar.Writer) error {
	c := s.Container
	config, err := json.MarshalIndent(dumpedConfig{
		ID: string(c.ID), Name: c.Config.GetMetadata().GetName(), RootfsImage: c.Image.ID, RootfsImageRef: c.Image.Digest,
		RootfsImageName: c.Image.User, OCIRuntime: s.Runtime, CreatedTime: c.CreatedAt.UTC(), CheckpointedAt: s.At.UTC(),
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := to.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: configDump, Mode: 0o600, Size: int64(len(config)), ModTime: s.At}); err != nil {
		return err
	}
	if _, err := to.Write(config); err != nil {
		return err
	}
	for _, f := range []struct{ name, from string }{
		{specDump, s.Work.spec()}, {imagesDir, s.Work.Images()}, {rootfsDiff, s.Work.Changes()}, {deletedFiles, s.Work.deleted()},
		{containerLog, s.Work.log()}, {dumpLog, filepath.Join(s.Work.Criu(), "dump.log")}, {statsDump, filepath.Join(s.Work.Criu(), "stats-dump")},
	} {
		if err := addTo(ctx, to, f.name, f.from); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return to.Close()
}

// addTo adds a file, or a directory of files; one that is absent has no entry.
func addTo(ctx context.Context, to *tar.Writer, name, from string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return ignoreMissing(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(), Format: tar.FormatPAX}
	if info.IsDir() {
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		if err := to.WriteHeader(h); err != nil {
			return err
		}
		names, err := f.Readdirnames(-1)
		if err != nil {
			return err
		}
		for _, base := range names {
			if err := addTo(ctx, to, path.Join(name, base), filepath.Join(from, base)); err != nil {
				return err
			}
		}
		return nil
	}
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := to.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(to, io.LimitReader(f, info.Size()))
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
