package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/cri/stream"
	"github.com/vitrine-runtime/vitrine/image"
	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Pods is what changes and knows pods; *lifecycle.Manager is one.
type Pods interface {
	RunSandbox(ctx context.Context, config *runtime.PodSandboxConfig, handler string) (pod.ID, error)
	StopSandbox(ctx context.Context, id string) error
	RemoveSandbox(ctx context.Context, id string) error
	UpdateSandboxResources(ctx context.Context, id string, overhead, resources *runtime.LinuxContainerResources) error
	Sandbox(id string) (pod.Sandbox, error)
	Sandboxes() []pod.Sandbox
	// SandboxList and ContainerList are newest first, without what is still being made.
	SandboxList() []*pod.Sandbox

	CreateContainer(ctx context.Context, sandboxID string, config *runtime.ContainerConfig) (pod.ID, error)
	StartContainer(ctx context.Context, id string) error
	StopContainer(ctx context.Context, id string, timeout time.Duration) error
	RemoveContainer(ctx context.Context, id string) error
	Container(id string) (pod.Container, error)
	Containers() []pod.Container
	ContainerList() []*pod.Container
	ContainersOf(sandbox pod.ID) []pod.Container
	UpdateResources(ctx context.Context, id string, resources *runtime.LinuxContainerResources) error
	ReopenLog(ctx context.Context, id string) error
	CheckpointContainer(ctx context.Context, id, location string, timeout time.Duration) error
	CheckpointPod(ctx context.Context, id, dir string, containers []string, options map[string]string) error
	RestorePod(ctx context.Context, dir string, config *runtime.PodSandboxConfig, handler string, containers []*runtime.ContainerConfig,
		options map[string]string) (pod.ID, []lifecycle.Restored, error)

	ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (lifecycle.ExecResult, error)
	Exec(ctx context.Context, id string, request lifecycle.ExecRequest) (exit int32, err error)
	Attach(ctx context.Context, id string, request lifecycle.AttachRequest) error
	PortForward(ctx context.Context, sandboxID string, port int32, stream io.ReadWriteCloser) error

	ContainerStats(ctx context.Context, id string) (lifecycle.Stats, error)
	SandboxStats(ctx context.Context, id string) (lifecycle.SandboxStats, error)
	SandboxFigures(ctx context.Context, id string) (lifecycle.SandboxStats, error)
	InspectContainer(id string) (map[string]string, error)
	InspectSandbox(id string) (map[string]string, error)

	NetworkReady() error
	CgroupDriver() string
	HugepageSizes() []string
	Handlers() []lifecycle.HandlerInfo
	CheckHandler(name string) error
	Operations() []lifecycle.Operation
}

// Images is what keeps images; *image.Store is one.
type Images interface {
	Pull(ctx context.Context, request image.PullRequest) (image.Image, error)
	Status(ctx context.Context, ref string) (image.Image, error)
	List(ctx context.Context) ([]image.Image, error)
	Remove(ctx context.Context, ref string) error
	FsInfo(ctx context.Context) (image.FsInfo, error)
}

// Subscription is a queue of pod events; *lifecycle.Subscription is one. Events is
// closed when the subscriber fell behind, and then Lost is true, or on Close.
type Subscription interface {
	Events() <-chan *pod.Event
	Lost() bool
	Close()
}

// Config is what a Server is made of.
type Config struct {
	Pods   Pods
	Images Images
	// Subscribe returns what a client may have missed while the daemon was down, then
	// the events from now on, with room for so many that were not taken yet; nil means
	// that Pods, a *lifecycle.Manager, is asked.
	Subscribe func(buffer int) Subscription
	// Version is the daemon's own, as Version reports it; empty means "0.0.0".
	Version string
	// Conditions are shown by Status beside RuntimeReady and NetworkReady; may be nil.
	Conditions func() []*runtime.RuntimeCondition
	// Log may be nil, which means slog.Default.
	Log *slog.Logger
	Options
}

// Options is what an administrator may choose. The zero value works.
type Options struct {
	// Stream is where Exec, Attach and PortForward are served.
	Stream stream.Config `toml:"stream"`
	// EventBuffer is how many container events may wait for one slow client of
	// GetContainerEvents before it is cut off; 0 means 1024.
	EventBuffer int `toml:"event_buffer"`
}

// Server answers CRI calls. It is safe for concurrent use.
type Server struct {
	config  Config
	pods    Pods
	images  Images
	log     *slog.Logger
	streams *stream.Server
	rates   rates
	page    containerPage

	containerRoll *roll[pod.Container]
	sandboxRoll   *roll[pod.Sandbox]
	told          told

	closing chan struct{} // closed by Close
	close   sync.Once
}

// New makes a server and starts listening for streaming clients. The caller ends it
// with Close.
func New(config Config) (*Server, error) {
	if config.Pods == nil || config.Images == nil {
		return nil, fmt.Errorf("make CRI server: %w: Pods and Images are needed", pod.ErrInvalid)
	}
	if config.Subscribe == nil {
		manager, ok := config.Pods.(interface {
			SubscribeReplay(int) *lifecycle.Subscription
		})
		if !ok {
			return nil, fmt.Errorf("make CRI server: %w: nobody publishes events", pod.ErrInvalid)
		}
		config.Subscribe = func(buffer int) Subscription { return manager.SubscribeReplay(buffer) }
	}
	if config.EventBuffer <= 0 {
		config.EventBuffer = 1024
	}
	if config.Version == "" {
		config.Version = "0.0.0"
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	streams, err := stream.Listen(config.Stream, config.Pods, config.Log)
	if err != nil {
		return nil, fmt.Errorf("make CRI server: %w", err)
	}
	return &Server{
		config: config, pods: config.Pods, images: config.Images, log: config.Log, streams: streams,
		rates: newRates(), closing: make(chan struct{}),
		containerRoll: newRoll(func(c *pod.Container) pod.ID { return c.ID }, func(c *pod.Container) proto.Message { return containerItem(c) }),
		sandboxRoll:   newRoll(func(sb *pod.Sandbox) pod.ID { return sb.ID }, func(sb *pod.Sandbox) proto.Message { return sandboxItem(sb) }),
	}, nil
}

// Register offers both services on g, which wants ServerOption.
func (s *Server) Register(g *grpc.Server) {
	g.RegisterService(s.door(runtime.RuntimeService_ServiceDesc), &runtimeService{Server: s})
	g.RegisterService(s.door(runtime.ImageService_ServiceDesc), &imageService{Server: s})
}

// Close ends event streams and streaming sessions and waits for the sessions, up to
// ten seconds. Call it before the gRPC server is stopped gracefully, which would
// wait for event streams for ever.
func (s *Server) Close() error {
	err := errors.New("close CRI server: it was closed before")
	s.close.Do(func() {
		close(s.closing)
		err = s.streams.Close()
	})
	return err
}

// runtimeService is the RuntimeService, but for ListContainers and ListPodSandbox, which
// Server.answer answers. A method of a later version of CRI answers
// Unimplemented by the embedded type.
type runtimeService struct {
	runtime.UnimplementedRuntimeServiceServer
	*Server
}

// imageService is the ImageService.
type imageService struct {
	runtime.UnimplementedImageServiceServer
	*Server
}

var (
	_ runtime.RuntimeServiceServer = (*runtimeService)(nil)
	_ runtime.ImageServiceServer   = (*imageService)(nil)
)
