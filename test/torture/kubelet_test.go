package torture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vitrine-runtime/vitrine/test/harness"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A kubelet's runtime may die all the time: it retries the same request until it has
// an answer, and looks at the state before it goes on.
type kubelet struct {
	d     *harness.Daemon
	cri   *harness.CRI
	image string
}

// retry repeats a request for as long as it meets a dead daemon. An answer that is
// an error is given three more chances, because the death may have undone what the
// request was about; then it is final.
func (k kubelet) retry(what string, call func(context.Context) error) error {
	deadline := time.Now().Add(harness.Scale(5 * time.Minute)) // deaths may come faster than the request takes
	for answers := 0; ; {
		ctx, cancel := context.WithTimeout(context.Background(), harness.Scale(30*time.Second))
		err := call(ctx)
		cancel()
		if err == nil {
			return nil
		}
		if code := status.Code(err); code != codes.Unavailable && code != codes.Canceled {
			answers++
		}
		if answers > 3 || time.Now().After(deadline) {
			return fmt.Errorf("%s: %w", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// life is a pod with one container, from its first request to its removal.
func (k kubelet) life(pod *runtime.PodSandboxConfig) error {
	config := harness.Container(pod, "c", k.image, "/bin/payload", "wait")
	var sandbox, id string
	up := func(ctx context.Context) (err error) {
		if sandbox, err = k.cri.RunPod(ctx, pod); err != nil {
			return fmt.Errorf("run pod: %w", err)
		}
		if id, err = k.cri.Create(ctx, sandbox, pod, config); err != nil {
			return fmt.Errorf("create: %w", err)
		}
		return k.started(ctx, id, config)
	}
	if err := k.retry("bring pod up", up); err != nil {
		return err
	}
	// A PID 1 that has not yet asked for SIGTERM does not get it: one second is enough to wait.
	if err := k.retry("stop container", func(ctx context.Context) error { return k.cri.Stop(ctx, id, 1) }); err != nil {
		return err
	}
	return k.retry("remove pod", func(ctx context.Context) error { return k.cri.RemovePod(ctx, sandbox) })
}

// started starts the container unless it was started before the daemon died.
func (k kubelet) started(ctx context.Context, id string, config *runtime.ContainerConfig) error {
	s, err := k.cri.Status(ctx, id)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	switch s.State {
	case runtime.ContainerState_CONTAINER_RUNNING:
		return nil
	case runtime.ContainerState_CONTAINER_CREATED:
		if err := k.cri.Start(ctx, id); err != nil {
			return fmt.Errorf("start: %w", err)
		}
		return nil
	}
	// A death in the middle of a start may end the container: the next attempt.
	config.Metadata.Attempt++
	return errors.Join(k.cri.Remove(ctx, id), fmt.Errorf("container is %v: %s", s.State, s.Message))
}
