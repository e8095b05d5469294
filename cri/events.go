package cri

import (
	"fmt"

	"google.golang.org/grpc"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// eventTypes are CRI's words for what happened. A sandbox counts as a container
// here, with the sandbox's ID; one that is ready was created and has started.
var eventTypes = map[pod.EventKind][]runtime.ContainerEventType{
	pod.SandboxReady:     {runtime.ContainerEventType_CONTAINER_CREATED_EVENT, runtime.ContainerEventType_CONTAINER_STARTED_EVENT},
	pod.SandboxStopped:   {runtime.ContainerEventType_CONTAINER_STOPPED_EVENT},
	pod.SandboxRemoved:   {runtime.ContainerEventType_CONTAINER_DELETED_EVENT},
	pod.ContainerCreated: {runtime.ContainerEventType_CONTAINER_CREATED_EVENT},
	pod.ContainerStarted: {runtime.ContainerEventType_CONTAINER_STARTED_EVENT},
	pod.ContainerExited:  {runtime.ContainerEventType_CONTAINER_STOPPED_EVENT},
	pod.ContainerRemoved: {runtime.ContainerEventType_CONTAINER_DELETED_EVENT},
}

// GetContainerEvents sends what happens from now on, in order, until the client
// leaves. After a restart of the daemon it begins with what the client may have missed
// meanwhile; that can repeat what it has seen, with the time of then. Each client has its
// own queue: a slow one delays nobody, and one that falls behind by a whole queue is ended
// with ResourceExhausted, so that it can list and subscribe again instead of missing
// something.
func (s *runtimeService) GetContainerEvents(_ *runtime.GetEventsRequest, out grpc.ServerStreamingServer[runtime.ContainerEventResponse]) error {
	events := s.config.Subscribe(s.config.EventBuffer)
	defer events.Close()
	for {
		select {
		case <-out.Context().Done():
			return out.Context().Err()
		case <-s.closing:
			return fmt.Errorf("send container events: %w: the daemon is stopping", pod.ErrUnavailable)
		case e, open := <-events.Events():
			if !open && events.Lost() { // what was queued before the gap has been sent
				return fmt.Errorf("send container events: %w: this client is more than %d events behind", pod.ErrExhausted, s.config.EventBuffer)
			}
			if !open {
				return fmt.Errorf("send container events: %w: the daemon is stopping", pod.ErrUnavailable)
			}
			messages, err := s.told.messages(e)
			if err != nil {
				return err
			}
			for _, message := range messages {
				if err := out.SendMsg(message); err != nil {
					return err
				}
			}
		}
	}
}

// event carries the state of the whole pod at that moment. Of a container whose sandbox is
// gone it has none: kubelet passes such an event over, and would not survive a status
// without metadata.
func event(e *pod.Event, kind runtime.ContainerEventType) *runtime.ContainerEventResponse {
	response := &runtime.ContainerEventResponse{ContainerId: string(e.Subject()), ContainerEventType: kind, CreatedAt: nanos(e.Time)}
	if e.Sandbox.ID != "" {
		response.PodSandboxStatus, response.ContainersStatuses = sandboxStatus(e.Sandbox), statuses(e.Siblings)
	}
	return response
}
