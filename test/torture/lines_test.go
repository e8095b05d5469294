package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

const (
	rotateEvery = 50 * time.Millisecond
	deaths      = 10
)

func TestEachLineOnceInOrderThroughRotationsAndDeaths(t *testing.T) {
	d, image := start(t)
	cri := d.Client(t)
	length := time.Duration(*lines) * time.Second / time.Duration(*rate)
	ctx := harness.Context(t, 10*length+time.Minute)
	before := harness.Must(d.Census())(t)
	pod := d.HostPod("writer")
	sandbox := harness.Must(cri.RunPod(ctx, pod))(t)
	c := harness.Container(pod, "writer", image, "/bin/payload", "lines", strconv.Itoa(*lines), "60", strconv.Itoa(*rate))
	id := harness.Must(cri.Run(ctx, sandbox, pod, c))(t)

	rotator := &rotator{cri: cri, id: id, path: harness.LogPath(pod, c)}
	var running sync.WaitGroup
	stop, cancel := context.WithCancel(ctx)
	running.Go(func() { rotator.run(stop) })
	for range deaths {
		time.Sleep(length/deaths/2 + rand.N(length/deaths/2))
		if _, err := d.Restart(ctx); err != nil {
			t.Error(err)
			break
		}
	}
	s, err := cri.WaitExit(ctx, id)
	cancel()
	running.Wait()
	if err != nil || s.ExitCode != 0 {
		t.Fatalf("the writer: %v, %v", s, err)
	}
	if rotator.err != nil {
		t.Error(rotator.err)
	}
	if err := rotator.check.finish(rotator.path, *lines); err != nil {
		t.Error(err)
	}
	t.Logf("%d lines over %d rotations (%d of them while the daemon was away) and %d deaths", rotator.check.next, rotator.done, rotator.refused, deaths)
	if least := int(float64(length/rotateEvery) / 4 / harness.Slowdown()); rotator.done < max(1, least) {
		t.Errorf("only %d rotations in %v, want %d", rotator.done, length, least)
	}
	if err := cri.RemovePod(ctx, sandbox); err != nil {
		t.Error(err)
	}
	harness.NothingLeft(t, d, before)
}

// rotator does what kubelet does, and checks each file when it is done with.
type rotator struct {
	cri           *harness.CRI
	id, path      string
	check         sequence
	done, refused int
	err           error
}

func (r *rotator) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(rotateEvery):
		}
		if r.err = r.rotate(ctx); r.err != nil {
			return
		}
	}
}

func (r *rotator) rotate(ctx context.Context) error {
	old := r.path + ".old"
	if err := os.Rename(r.path, old); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	if _, err := r.cri.ReopenContainerLog(context.WithoutCancel(ctx), &runtime.ReopenContainerLogRequest{ContainerId: r.id}); err != nil {
		// The daemon died or the container ended. When the monitor had not yet
		// reopened, the file goes back, as kubelet puts it back.
		err := unix.Renameat2(unix.AT_FDCWD, old, unix.AT_FDCWD, r.path, unix.RENAME_NOREPLACE)
		if err == nil {
			r.refused++
			return nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("put the log back: %w", err)
		}
	}
	r.done++
	if err := r.check.file(old); err != nil {
		return err
	}
	return os.Remove(old)
}

// sequence checks that numbered lines come each once, in order, over many files.
type sequence struct {
	next    int
	partial []byte
}

func (s *sequence) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return harness.ParseLog(f, s.line)
}

// line takes the next record.
func (s *sequence) line(rec harness.LogRecord) error {
	line := rec.Text
	if rec.Partial || len(s.partial) > 0 {
		s.partial = append(s.partial, rec.Text...)
		if rec.Partial {
			return nil
		}
		line, s.partial = bytes.Clone(s.partial), s.partial[:0]
	}
	n, err := strconv.Atoi(string(line[:min(10, len(line))]))
	if err != nil || n != s.next || len(line) != 59 {
		return fmt.Errorf("want line %d, got %.60q", s.next, line)
	}
	s.next++
	return nil
}

func (s *sequence) finish(path string, want int) error {
	if err := s.file(path); err != nil {
		return err
	}
	if s.next != want || len(s.partial) > 0 {
		return fmt.Errorf("%d lines and %d bytes of one more, want %d lines", s.next, len(s.partial), want)
	}
	return nil
}
