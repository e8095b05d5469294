package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/test/harness"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// answersWithin is how soon a restarted daemon answers with everything in place.
const answersWithin = 2 * time.Second

// promised is the number of deaths of the full run, which keeps the limit to the letter.
const promised = 200

func TestDeathsInAStormLoseAndLeakNothing(t *testing.T) {
	d, image := start(t)
	cri := d.Client(t)
	ctx := harness.Context(t, 30*time.Minute)
	before := harness.Must(d.Census())(t)
	pods := stand(t, ctx, d, cri, image)

	storm := newStorm(ctx, d, cri, image)
	var took []time.Duration
	for i := range *kills {
		life := rand.N(400 * time.Millisecond)
		if i%10 == 9 {
			life += 2 * time.Second // what takes longer than most lives gets done, too
		}
		time.Sleep(life)
		if err := d.Kill9(); err != nil {
			t.Fatal(err)
		}
		from := time.Now()
		if err := d.Start(ctx); err != nil {
			t.Fatalf("death %d: %v", i+1, err)
		}
		if err := pods.check(ctx, cri); err != nil {
			t.Errorf("after death %d: %v", i+1, err)
		}
		answered := time.Since(from)
		took = append(took, answered)
		limit := harness.Scale(answersWithin)
		if *kills < promised { // the short form runs on machines that have other work, too
			limit = time.Duration(float64(limit) * harness.Slowdown())
		}
		if answered > limit {
			t.Errorf("restart %d took %v, want at most %v", i+1, answered, limit)
		}
	}
	storm.stop()
	for _, err := range storm.errors {
		t.Error(err)
	}
	slices.Sort(took)
	t.Logf("%d deaths during %d pods and %d pulls; all %d standing pods listed after %v in the median, %v at most",
		*kills, storm.pods.Load(), storm.pulls.Load(), *standing, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	if err := pods.check(ctx, cri); err != nil {
		t.Error(err)
	}
	if list := harness.Must(cri.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{}))(t); len(list.Items) != *standing {
		t.Errorf("%d sandboxes are listed after the storm, want %d", len(list.Items), *standing)
	}
	if err := cri.RemoveAll(ctx); err != nil {
		t.Error(err)
	}
	storm.removeImages(t)
	harness.NothingLeft(t, d, before)
}

// crowd is the pods that stand through all deaths: container id → when it started.
type crowd map[string]int64

func stand(t *testing.T, ctx context.Context, d *harness.Daemon, cri *harness.CRI, image string) crowd {
	t.Helper()
	var mu sync.Mutex // guards all
	all := crowd{}
	var running sync.WaitGroup
	slots := make(chan struct{}, *parallel)
	for i := range *standing {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			pod := d.Pod(fmt.Sprintf("standing-%d", i))
			sandbox, err := cri.RunPod(ctx, pod)
			if err != nil {
				t.Error(err)
				return
			}
			id, err := cri.Run(ctx, sandbox, pod, harness.Container(pod, "c", image, "/bin/payload", "wait"))
			if err != nil {
				t.Error(err)
				return
			}
			s, err := cri.Status(ctx, id)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			all[id] = s.StartedAt
			mu.Unlock()
		})
	}
	running.Wait()
	if t.Failed() {
		cri.RemoveAll(ctx)
		t.FailNow()
	}
	return all
}

// check fails unless every standing container is listed once, running, since the
// moment it was started.
func (c crowd) check(ctx context.Context, cri *harness.CRI) error {
	list, err := cri.ListContainers(ctx, &runtime.ListContainersRequest{})
	if err != nil {
		return err
	}
	seen := map[string]int{}
	for _, item := range list.Containers {
		if _, is := c[item.Id]; !is {
			continue
		}
		seen[item.Id]++
		if item.State != runtime.ContainerState_CONTAINER_RUNNING {
			return fmt.Errorf("container %.13s is %v", item.Id, item.State)
		}
	}
	for id, started := range c {
		if seen[id] != 1 {
			return fmt.Errorf("container %.13s is listed %d times", id, seen[id])
		}
		if s, err := cri.Status(ctx, id); err != nil || s.StartedAt != started {
			return fmt.Errorf("container %.13s: started at %d, then %d, %v", id, started, s.GetStartedAt(), err)
		}
	}
	return nil
}
