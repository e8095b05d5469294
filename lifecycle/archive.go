package lifecycle

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

// saveFiles keeps what belongs to the processes' state beside their memory. The
// container is paused: it is one moment.
func (m *Manager) saveFiles(ctx context.Context, s *shot) (err error) {
	c := s.container
	defer func() {
		if err != nil {
			err = fmt.Errorf("checkpoint container %s: %w", c.ID.Short(), err)
		}
	}()
	changes, err := os.OpenFile(filepath.Join(s.work, shotChanges), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	deleted, err := m.images.SaveChanges(ctx, string(c.ID), changes)
	if err = errors.Join(err, changes.Close()); err != nil {
		return err
	}
	if len(deleted) > 0 {
		if err := writeJSON(filepath.Join(s.work, shotDeleted), deleted); err != nil {
			return err
		}
	}
	if err := saveLog(c.LogPath, filepath.Join(s.work, shotLog)); err != nil {
		return err
	}
	return m.saveSpec(s)
}

// saveLog copies the log as long as it is now. It is written by the monitor, which is not
// paused, but reads nothing from a container that is.
func saveLog(from, to string) error {
	if from == "" {
		return nil
	}
	log, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ignoreGone(err)
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
func (m *Manager) saveSpec(s *shot) error {
	raw, err := os.ReadFile(filepath.Join(m.store.ContainerDir(s.container.ID), "config.json"))
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
	c, owner := s.container, s.sandbox.Config.GetMetadata()
	inJSON := func(v any) string { raw, _ := json.Marshal(v); return string(raw) } // maps and structs of strings
	for key, value := range map[string]string{
		"io.container.manager":             "vitrine",
		"io.kubernetes.cri-o.Metadata":     inJSON(map[string]any{"name": c.Config.GetMetadata().GetName(), "attempt": c.Config.GetMetadata().GetAttempt()}),
		"io.kubernetes.cri-o.Labels":       inJSON(c.Config.GetLabels()),
		"io.kubernetes.cri-o.Annotations":  inJSON(c.Config.GetAnnotations()),
		"io.kubernetes.cri-o.SandboxID":    string(s.sandbox.ID),
		"io.kubernetes.cri-o.Created":      c.CreatedAt.Format(time.RFC3339Nano),
		"io.kubernetes.cri-o.LogPath":      c.LogPath,
		"io.kubernetes.cri-o.ImageName":    c.Image.User,
		"io.kubernetes.container.name":     c.Config.GetMetadata().GetName(),
		"io.kubernetes.pod.name":           owner.GetName(),
		"io.kubernetes.pod.namespace":      owner.GetNamespace(),
		"io.kubernetes.pod.uid":            owner.GetUid(),
		"io.kubernetes.cri.container-name": c.Config.GetMetadata().GetName(),
	} {
		annotations[key] = value
	}
	spec["annotations"] = annotations
	return writeJSON(filepath.Join(s.work, shotSpec), spec)
}

func writeJSON(path string, value any) error {
	raw, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

// write makes the archive beside its place and moves it there when it is whole and synced.
// It holds memory of processes: nobody but root may read it.
func (s *shot) write(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write checkpoint of container %s: %w", s.container.ID.Short(), err)
		}
	}()
	out, err := os.CreateTemp(filepath.Dir(s.archive), "."+filepath.Base(s.archive)+".partial-") // mode 0600
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
	return os.Rename(out.Name(), s.archive)
}

func (s *shot) fill(ctx context.Context, to *tar.Writer) error {
	c := s.container
	config, err := json.MarshalIndent(dumpedConfig{
		ID: string(c.ID), Name: c.Config.GetMetadata().GetName(), RootfsImage: c.Image.ID, RootfsImageRef: c.Image.Digest,
		RootfsImageName: c.Image.User, OCIRuntime: handlerName(s.handler), CreatedTime: c.CreatedAt.UTC(), CheckpointedAt: s.at.UTC(),
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := to.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: configDump, Mode: 0o600, Size: int64(len(config)), ModTime: s.at}); err != nil {
		return err
	}
	if _, err := to.Write(config); err != nil {
		return err
	}
	for _, f := range []struct{ name, from string }{
		{specDump, shotSpec}, {imagesDir, shotImages}, {rootfsDiff, shotChanges}, {deletedFiles, shotDeleted},
		{containerLog, shotLog}, {dumpLog, filepath.Join(shotCriu, "dump.log")}, {statsDump, filepath.Join(shotCriu, "stats-dump")},
	} {
		if err := addTo(ctx, to, f.name, filepath.Join(s.work, f.from)); err != nil {
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
		return ignoreGone(err)
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

// handlerName is what config.dump calls the runtime.
func handlerName(h Handler) string {
	if !h.external() {
		return "libcontainer"
	}
	return filepath.Base(h.binary())
}
