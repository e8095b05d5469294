package torture

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A storm creates, stops and removes pods and pulls and removes images, until it is
// stopped, while the daemon dies.
type storm struct {
	kubelet
	images []string
	cancel context.CancelFunc
	ran    sync.WaitGroup

	pods, pulls atomic.Int64
	mu          sync.Mutex // guards errors
	errors      []error
}

const (
	podWorkers  = 4
	pullWorkers = 2
)

func newStorm(ctx context.Context, d *harness.Daemon, cri *harness.CRI, image string) *storm {
	s := &storm{kubelet: kubelet{d, cri, image}}
	ctx, s.cancel = context.WithCancel(ctx)
	for i := range pullWorkers {
		s.images = append(s.images, fmt.Sprintf("storm/image-%d:1", i))
	}
	for i := range podWorkers {
		s.ran.Go(func() { s.loop(ctx, func() error { return s.pod(fmt.Sprintf("storm-%d", i)) }) })
	}
	for _, name := range s.images {
		s.ran.Go(func() { s.loop(ctx, func() error { return s.pull(name) }) })
	}
	return s
}

// stop lets every worker finish what it is doing, and waits.
func (s *storm) stop() {
	s.cancel()
	s.ran.Wait()
}

func (s *storm) loop(ctx context.Context, once func() error) {
	for ctx.Err() == nil {
		if err := once(); err != nil {
			s.mu.Lock()
			s.errors = append(s.errors, err)
			s.mu.Unlock()
			return
		}
	}
}

func (s *storm) pod(name string) error {
	if err := s.life(s.d.Pod(name)); err != nil {
		return err
	}
	s.pods.Add(1)
	return nil
}

func (s *storm) pull(name string) error {
	err := s.retry("pull", func(ctx context.Context) error {
		ref, err := ensureImage(ctx, name)
		if err != nil {
			return err
		}
		_, err = s.cri.Pull(ctx, ref)
		return err
	})
	if err != nil {
		return err
	}
	s.pulls.Add(1)
	return s.retry("remove image", func(ctx context.Context) error { return s.remove(ctx, name) })
}

func (s *storm) remove(ctx context.Context, name string) error {
	_, err := s.cri.RemoveImage(ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: hub.Addr + "/" + name}})
	return err
}

func (s *storm) removeImages(t *testing.T) {
	for _, name := range s.images {
		if err := s.remove(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
}

var pushed sync.Map // name → func() (string, error), once each

// ensureImage pushes an image with a layer of its own, once.
func ensureImage(ctx context.Context, name string) (string, error) {
	once, _ := pushed.LoadOrStore(name, sync.OnceValues(func() (string, error) {
		var files []fixture.File
		for i := range 200 {
			files = append(files, fixture.File{Name: fmt.Sprintf("data/%s-%d", name[6:13], i), Body: make([]byte, 8<<10)})
		}
		p, err := fixture.BuildImage(context.WithoutCancel(ctx), hub.Addr, name, fixture.Image{Layers: []fixture.Layer{{Files: files}}, Config: v1.ImageConfig{Cmd: []string{name}}})
		return p.Ref, err
	}))
	return once.(func() (string, error))()
}
