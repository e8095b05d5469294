package harness

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CRI is a client of a CRI socket, any runtime's. It is safe for concurrent use.
type CRI struct {
	runtime.RuntimeServiceClient
	runtime.ImageServiceClient
	Conn *grpc.ClientConn
}

// maxMessage is kubelet's own bound on a CRI message, in bytes.
const maxMessage = 16 << 20

// Dial connects lazily: an absent socket is the first call's error. It reconnects
// within milliseconds, since tests kill the daemon on purpose.
func Dial(socket string) (*CRI, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 2 * time.Millisecond, Multiplier: 1.2, MaxDelay: 20 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	}
	if field := Without(); field != "" {
		options = append(options, leaveOut(field)...)
	}
	conn, err := grpc.NewClient("unix://"+socket, options...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", socket, err)
	}
	return &CRI{runtime.NewRuntimeServiceClient(conn), runtime.NewImageServiceClient(conn), conn}, nil
}

// Close closes the connection.
func (c *CRI) Close() error { return c.Conn.Close() }

// Pull pulls an image without credentials and returns its reference.
func (c *CRI) Pull(ctx context.Context, image string) (string, error) {
	r, err := c.PullImage(ctx, &runtime.PullImageRequest{Image: &runtime.ImageSpec{Image: image}})
	return r.GetImageRef(), err
}

// RunPod runs a sandbox with the default handler.
func (c *CRI) RunPod(ctx context.Context, pod *runtime.PodSandboxConfig) (string, error) {
	r, err := c.RunPodSandbox(ctx, &runtime.RunPodSandboxRequest{Config: pod})
	return r.GetPodSandboxId(), err
}

// Create creates a container in a sandbox.
func (c *CRI) Create(ctx context.Context, sandbox string, pod *runtime.PodSandboxConfig, config *runtime.ContainerConfig) (string, error) {
	r, err := c.CreateContainer(ctx, &runtime.CreateContainerRequest{PodSandboxId: sandbox, Config: config, SandboxConfig: pod})
	return r.GetContainerId(), err
}

// Start starts a container.
func (c *CRI) Start(ctx context.Context, id string) error {
	_, err := c.StartContainer(ctx, &runtime.StartContainerRequest{ContainerId: id})
	return err
}

// Run creates and starts a container.
func (c *CRI) Run(ctx context.Context, sandbox string, pod *runtime.PodSandboxConfig, config *runtime.ContainerConfig) (string, error) {
	id, err := c.Create(ctx, sandbox, pod, config)
	if err != nil {
		return "", err
	}
	return id, c.Start(ctx, id)
}

// Stop stops a container, giving it seconds before it is killed.
func (c *CRI) Stop(ctx context.Context, id string, seconds int64) error {
	_, err := c.StopContainer(ctx, &runtime.StopContainerRequest{ContainerId: id, Timeout: seconds})
	return err
}

// Remove removes a container.
func (c *CRI) Remove(ctx context.Context, id string) error {
	_, err := c.RemoveContainer(ctx, &runtime.RemoveContainerRequest{ContainerId: id})
	return err
}

// StopPod stops a sandbox and what runs in it.
func (c *CRI) StopPod(ctx context.Context, sandbox string) error {
	_, err := c.StopPodSandbox(ctx, &runtime.StopPodSandboxRequest{PodSandboxId: sandbox})
	return err
}

// RemovePod stops and removes a sandbox with everything in it.
func (c *CRI) RemovePod(ctx context.Context, sandbox string) error {
	if err := c.StopPod(ctx, sandbox); err != nil {
		return err
	}
	_, err := c.RemovePodSandbox(ctx, &runtime.RemovePodSandboxRequest{PodSandboxId: sandbox})
	return err
}

// Status returns a container's status.
func (c *CRI) Status(ctx context.Context, id string) (*runtime.ContainerStatus, error) {
	r, err := c.ContainerStatus(ctx, &runtime.ContainerStatusRequest{ContainerId: id})
	return r.GetStatus(), err
}

// PodStatus returns a sandbox's status.
func (c *CRI) PodStatus(ctx context.Context, sandbox string) (*runtime.PodSandboxStatus, error) {
	r, err := c.PodSandboxStatus(ctx, &runtime.PodSandboxStatusRequest{PodSandboxId: sandbox})
	return r.GetStatus(), err
}

// Exec runs a command to its end; a non-zero exit is not an error.
func (c *CRI) Exec(ctx context.Context, id string, timeout int64, cmd ...string) (*runtime.ExecSyncResponse, error) {
	return c.ExecSync(ctx, &runtime.ExecSyncRequest{ContainerId: id, Cmd: cmd, Timeout: timeout})
}

// WaitExit polls until the container has exited, as kubelet would, and returns its status.
func (c *CRI) WaitExit(ctx context.Context, id string) (*runtime.ContainerStatus, error) {
	for {
		s, err := c.Status(ctx, id)
		if err != nil {
			return nil, err
		}
		if s.State == runtime.ContainerState_CONTAINER_EXITED {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return s, fmt.Errorf("container %.13s is still %v: %w", id, s.State, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// RemoveAll removes every pod of the socket. It goes on after an error and returns the first.
func (c *CRI) RemoveAll(ctx context.Context) error {
	list, err := c.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	var first error
	for _, p := range list.Items {
		if err := c.RemovePod(ctx, p.Id); err != nil && first == nil {
			first = fmt.Errorf("remove pod %s: %w", p.GetMetadata().GetName(), err)
		}
	}
	return first
}
