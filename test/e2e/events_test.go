package e2e

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// What happened while nobody was there to tell reaches a client that comes back.
func TestExitsOfADeadDaemonsTimeReachAClientThatComesBack(t *testing.T) {
	n := start(t, harness.Options{})
	pod := n.HostPod("unwatched")
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	early, _ := n.run(sandbox, pod, "early", "/bin/sh", "-c", "exit 3")
	late, _ := n.run(sandbox, pod, "late", "/bin/payload", "wait")
	stays, _ := n.run(sandbox, pod, "stays", "/bin/payload", "wait")
	harness.Must(n.cri.WaitExit(n.ctx, early))(t) // on record; whether anybody was told is not known
	pid := initPID(t, n, late)
	n.must(n.Kill9())
	n.must(syscall.Kill(pid, syscall.SIGKILL))
	waitGone(t, pid)
	n.must(n.Start(n.ctx))

	for _, client := range []string{"first", "second"} {
		t.Run(client, func(t *testing.T) {
			ctx, cancel := context.WithCancel(n.ctx)
			defer cancel()
			stream := harness.Must(n.cri.GetContainerEvents(ctx, &runtime.GetEventsRequest{}))(t)
			seen := map[string][]string{}
			for len(seen[early]) == 0 || !slices.Contains(seen[late], "CONTAINER_STOPPED_EVENT 137") || len(seen[stays]) == 0 {
				e, err := stream.Recv()
				if err != nil {
					t.Fatalf("%v; seen are %v", err, seen)
				}
				seen[e.ContainerId] = append(seen[e.ContainerId], eventLine(e))
			}
			if !slices.Equal(seen[early], []string{"CONTAINER_STOPPED_EVENT 3"}) {
				t.Errorf("of the container that ended before: %v", seen[early])
			}
			if !slices.Equal(seen[stays], []string{"CONTAINER_STARTED_EVENT 0"}) {
				t.Errorf("of the container that runs: %v", seen[stays])
			}
		})
	}
	t.Run("then goes on", func(t *testing.T) {
		stream := harness.Must(n.cri.GetContainerEvents(n.ctx, &runtime.GetEventsRequest{}))(t)
		harness.Must(stream.Recv())(t) // it is subscribed
		n.must(n.cri.Stop(n.ctx, stays, 0))
		n.must(n.cri.Remove(n.ctx, stays))
		var last []string
		for !slices.Contains(last, "CONTAINER_DELETED_EVENT") {
			e, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if e.ContainerId == stays {
				last = append(last, e.ContainerEventType.String())
			}
		}
		if want := []string{"CONTAINER_STARTED_EVENT", "CONTAINER_STOPPED_EVENT", "CONTAINER_DELETED_EVENT"}; !slices.Equal(last, want[len(want)-len(last):]) {
			t.Errorf("got %v, want the end of %v", last, want)
		}
	})
	n.must(n.cri.RemovePod(n.ctx, sandbox))
	n.nothingLeft()
}

// eventLine is an event's type with the exit code of its container in the status that it carries.
func eventLine(e *runtime.ContainerEventResponse) string {
	for _, s := range e.ContainersStatuses {
		if s.Id == e.ContainerId {
			return fmt.Sprint(e.ContainerEventType, " ", s.ExitCode)
		}
	}
	return e.ContainerEventType.String()
}
