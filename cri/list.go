package cri

import (
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// visible says whether an object of this state exists for clients.
func visible(s pod.State) bool { return s != pod.Creating }

// selected reports whether labels have every entry of selector.
func selected(selector, labels map[string]string) bool {
	for key, value := range selector {
		if have, ok := labels[key]; !ok || have != value {
			return false
		}
	}
	return true
}

// sandboxFilter says which sandboxes pass every part of the filter; nil for all of them.
// IDs match by prefix.
func sandboxFilter(f *runtime.PodSandboxFilter) func(*pod.Sandbox) bool {
	if f.GetId() == "" && f.GetState() == nil && len(f.GetLabelSelector()) == 0 {
		return nil
	}
	return func(sb *pod.Sandbox) bool {
		return strings.HasPrefix(string(sb.ID), f.GetId()) && selected(f.GetLabelSelector(), sb.Config.GetLabels()) &&
			(f.GetState() == nil || f.GetState().GetState() == sandboxState(sb.State))
	}
}

// containerFilter is sandboxFilter for containers.
func containerFilter(f *runtime.ContainerFilter) func(*pod.Container) bool {
	if f.GetId() == "" && f.GetPodSandboxId() == "" && f.GetState() == nil && len(f.GetLabelSelector()) == 0 {
		return nil
	}
	return func(c *pod.Container) bool {
		return strings.HasPrefix(string(c.ID), f.GetId()) && strings.HasPrefix(string(c.SandboxID), f.GetPodSandboxId()) &&
			selected(f.GetLabelSelector(), c.Config.GetLabels()) &&
			(f.GetState() == nil || f.GetState().GetState() == containerState(c.State))
	}
}

// described makes the items of a streamed list, of those of all that keep chooses, nil
// for every one.
func described[O any, T proto.Message](all []*O, keep func(*O) bool, item func(*O) T) []T {
	var items []T
	for _, object := range all {
		if keep == nil || keep(object) {
			items = append(items, item(object))
		}
	}
	return items
}

// listPodSandbox answers ListPodSandbox. It reads memory only.
func (s *Server) listPodSandbox(r *runtime.ListPodSandboxRequest) (ready, error) {
	items, n, err := s.sandboxRoll.list(s.pods.SandboxList(), sandboxFilter(r.GetFilter()))
	if err != nil {
		return ready{}, err
	}
	return ready{&runtime.ListPodSandboxResponse{}, items}, fits(items.Len(), n, "StreamPodSandboxes")
}

// StreamPodSandboxes is ListPodSandbox in pieces.
func (s *runtimeService) StreamPodSandboxes(r *runtime.StreamPodSandboxesRequest, out grpc.ServerStreamingServer[runtime.StreamPodSandboxesResponse]) error {
	return inChunks(described(s.pods.SandboxList(), sandboxFilter(r.GetFilter()), sandboxItem), func(items []*runtime.PodSandbox) error {
		return out.Send(&runtime.StreamPodSandboxesResponse{PodSandboxes: items})
	})
}

// listContainers answers ListContainers. It reads memory only.
func (s *Server) listContainers(r *runtime.ListContainersRequest) (ready, error) {
	items, n, err := s.containerRoll.list(s.pods.ContainerList(), containerFilter(r.GetFilter()))
	if err != nil {
		return ready{}, err
	}
	return ready{&runtime.ListContainersResponse{}, items}, fits(items.Len(), n, "StreamContainers")
}

// StreamContainers is ListContainers in pieces.
func (s *runtimeService) StreamContainers(r *runtime.StreamContainersRequest, out grpc.ServerStreamingServer[runtime.StreamContainersResponse]) error {
	return inChunks(described(s.pods.ContainerList(), containerFilter(r.GetFilter()), containerItem), func(items []*runtime.Container) error {
		return out.Send(&runtime.StreamContainersResponse{Containers: items})
	})
}

// fits refuses an answer that clients could not receive, and says what to use instead.
func fits(size, items int, instead string) error {
	if size > maxMessage {
		return fmt.Errorf("list %d items: %w: %d bytes are more than a message of %d; use %s", items, pod.ErrExhausted, size, maxMessage, instead)
	}
	return nil
}

const (
	// chunkItems and chunkBytes bound one message of a streaming list. A single item
	// may be larger.
	chunkItems = 256
	chunkBytes = 1 << 20
)

// inChunks sends items, each once and in order, in messages of at least one; no
// message for no items.
func inChunks[T proto.Message](items []T, send func([]T) error) error {
	for len(items) > 0 {
		n, size := 0, 0
		for n < len(items) && n < chunkItems {
			size += proto.Size(items[n])
			if n > 0 && size > chunkBytes {
				break
			}
			n++
		}
		if err := send(items[:n]); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}
