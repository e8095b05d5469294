package cri

import (
	"context"
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

// sandboxes returns what passes every part of the filter, and all there are. IDs match
// by prefix.
func (s *Server) sandboxes(f *runtime.PodSandboxFilter) (some, all []*pod.Sandbox) {
	all = s.pods.SandboxList()
	return filtered(all, func(sb *pod.Sandbox) bool {
		return visible(sb.State) && strings.HasPrefix(string(sb.ID), f.GetId()) && selected(f.GetLabelSelector(), sb.Config.GetLabels()) &&
			(f.GetState() == nil || f.GetState().GetState() == sandboxState(sb.State))
	}), all
}

// containers returns what passes every part of the filter, and all there are. IDs match
// by prefix.
func (s *Server) containers(f *runtime.ContainerFilter) (some, all []*pod.Container) {
	all = s.pods.ContainerList()
	return filtered(all, func(c *pod.Container) bool {
		return visible(c.State) && strings.HasPrefix(string(c.ID), f.GetId()) && strings.HasPrefix(string(c.SandboxID), f.GetPodSandboxId()) &&
			selected(f.GetLabelSelector(), c.Config.GetLabels()) &&
			(f.GetState() == nil || f.GetState().GetState() == containerState(c.State))
	}), all
}

func filtered[T any](all []*T, keep func(*T) bool) []*T {
	some := make([]*T, 0, len(all))
	for _, object := range all {
		if keep(object) {
			some = append(some, object)
		}
	}
	return some
}

// described makes the items of a streamed list.
func described[O any, T proto.Message](objects []O, item func(O) T) []T {
	items := make([]T, len(objects))
	for i, o := range objects {
		items[i] = item(o)
	}
	return items
}

// ListPodSandbox lists pods. It reads memory only.
func (s *runtimeService) ListPodSandbox(_ context.Context, r *runtime.ListPodSandboxRequest) (*runtime.ListPodSandboxResponse, error) {
	some, all := s.sandboxes(r.GetFilter())
	items, err := s.sandboxItems.list(some, all, func(sb *pod.Sandbox) proto.Message { return sandboxItem(sb) })
	if err != nil {
		return nil, err
	}
	response := answer(&runtime.ListPodSandboxResponse{}, items)
	return response, fits(response, len(some), "StreamPodSandboxes")
}

// StreamPodSandboxes is ListPodSandbox in pieces.
func (s *runtimeService) StreamPodSandboxes(r *runtime.StreamPodSandboxesRequest, out grpc.ServerStreamingServer[runtime.StreamPodSandboxesResponse]) error {
	some, _ := s.sandboxes(r.GetFilter())
	return inChunks(described(some, sandboxItem), func(items []*runtime.PodSandbox) error {
		return out.Send(&runtime.StreamPodSandboxesResponse{PodSandboxes: items})
	})
}

// ListContainers lists containers. It reads memory only.
func (s *runtimeService) ListContainers(_ context.Context, r *runtime.ListContainersRequest) (*runtime.ListContainersResponse, error) {
	some, all := s.containers(r.GetFilter())
	items, err := s.containerItems.list(some, all, func(c *pod.Container) proto.Message { return containerItem(c) })
	if err != nil {
		return nil, err
	}
	response := answer(&runtime.ListContainersResponse{}, items)
	return response, fits(response, len(some), "StreamContainers")
}

// StreamContainers is ListContainers in pieces.
func (s *runtimeService) StreamContainers(r *runtime.StreamContainersRequest, out grpc.ServerStreamingServer[runtime.StreamContainersResponse]) error {
	some, _ := s.containers(r.GetFilter())
	return inChunks(described(some, containerItem), func(items []*runtime.Container) error {
		return out.Send(&runtime.StreamContainersResponse{Containers: items})
	})
}

// fits refuses an answer that clients could not receive, and says what to use instead.
func fits(response proto.Message, items int, instead string) error {
	if size := proto.Size(response); size > maxMessage {
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
