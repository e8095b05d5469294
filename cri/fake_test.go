package cri_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/cri"
	"github.com/vitrine-runtime/vitrine/image"
	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/pod"
)

// node is a runtime in memory: pods have states, make events, and run no process.
type node struct {
	mu         sync.Mutex // guards the rest
	sandboxes  map[pod.ID]pod.Sandbox
	containers map[pod.ID]pod.Container
	subs       map[*subscription]struct{}
	seq        uint64
	clock      time.Time
	cpu        uint64

	// Settings of a test.
	networkDown error
	smallPages  bool // no huge ones
	execSync    func(ctx context.Context, cmd []string, timeout time.Duration) (lifecycle.ExecResult, error)
	broken      map[pod.ID]error // figures that cannot be read
	stopFails   error
	fill        func(*lifecycle.SandboxStats) // what a host would tell beyond figures()
}

func newNode() *node {
	return &node{
		sandboxes: map[pod.ID]pod.Sandbox{}, containers: map[pod.ID]pod.Container{}, subs: map[*subscription]struct{}{},
		clock: time.Unix(1_800_000_000, 0), broken: map[pod.ID]error{},
	}
}

func (n *node) tick() time.Time {
	n.clock = n.clock.Add(time.Second)
	return n.clock
}

func find[V any](all map[pod.ID]V, what, id string) (V, error) {
	var found []V
	for have, v := range all {
		if strings.HasPrefix(string(have), id) {
			found = append(found, v)
		}
	}
	var none V
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return none, fmt.Errorf("%s %q: %w", what, id, pod.ErrNotFound)
	}
	return none, fmt.Errorf("%w: %s id %q fits %d of them", pod.ErrInvalid, what, id, len(found))
}

func (n *node) RunSandbox(_ context.Context, config *runtime.PodSandboxConfig, handler string) (pod.ID, error) {
	if err := n.CheckHandler(handler); err != nil {
		return "", err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	sb := pod.Sandbox{
		ID: pod.NewID(), State: pod.Ready, Config: pod.SandboxConfig{PodSandboxConfig: config}, Handler: handler, CreatedAt: n.tick(),
		Network: pod.NetworkStatus{IPs: []string{"10.1.0.7", "fd00::7"}},
	}
	for id, old := range n.sandboxes {
		if old.Key() == sb.Key() {
			return id, nil
		}
	}
	n.sandboxes[sb.ID] = sb
	n.publish(pod.SandboxReady, sb, nil)
	return sb.ID, nil
}

func (n *node) StopSandbox(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	sb, err := find(n.sandboxes, "sandbox", id)
	if err != nil || sb.State == pod.NotReady {
		return err
	}
	if n.stopFails != nil {
		return n.stopFails
	}
	for _, c := range n.of(sb.ID) {
		n.exit(c, 137)
	}
	sb.State = pod.NotReady
	n.sandboxes[sb.ID] = sb
	n.publish(pod.SandboxStopped, sb, nil)
	return nil
}

func (n *node) UpdateSandboxResources(_ context.Context, id string, overhead, resources *runtime.LinuxContainerResources) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	sb, err := find(n.sandboxes, "sandbox", id)
	if err != nil {
		return err
	}
	sb.Overhead, sb.Resources = &pod.Resources{LinuxContainerResources: overhead}, &pod.Resources{LinuxContainerResources: resources}
	n.sandboxes[sb.ID] = sb
	return nil
}

func (n *node) RemoveSandbox(ctx context.Context, id string) error {
	if err := n.StopSandbox(ctx, id); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	sb, err := find(n.sandboxes, "sandbox", id)
	if err != nil {
		return err
	}
	for _, c := range n.of(sb.ID) {
		n.remove(c)
	}
	delete(n.sandboxes, sb.ID)
	n.publish(pod.SandboxRemoved, sb, nil)
	return nil
}

func (n *node) Sandbox(id string) (pod.Sandbox, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return find(n.sandboxes, "sandbox", id)
}

func (n *node) SandboxList() []*pod.Sandbox {
	var all []*pod.Sandbox
	for _, sb := range n.Sandboxes() {
		all = append(all, &sb)
	}
	return all
}

func (n *node) ContainerList() []*pod.Container {
	var all []*pod.Container
	for _, c := range n.Containers() {
		all = append(all, &c)
	}
	return all
}

func (n *node) Sandboxes() []pod.Sandbox {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []pod.Sandbox
	for _, sb := range n.sandboxes {
		all = append(all, sb)
	}
	return all
}

func (n *node) CreateContainer(_ context.Context, sandbox string, config *runtime.ContainerConfig) (pod.ID, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sb, err := find(n.sandboxes, "sandbox", sandbox)
	if err != nil {
		return "", err
	}
	c := pod.Container{
		ID: pod.NewID(), SandboxID: sb.ID, State: pod.Created, Config: pod.ContainerConfig{ContainerConfig: config}, CreatedAt: n.tick(),
		Image: pod.ImageRef{ID: "abc", User: config.GetImage().GetUserSpecifiedImage(), Digest: "reg/app@sha256:123"},
		User:  pod.User{UID: 1000, GID: 1001, Groups: []uint32{1001, 2000}}, StopSignal: "SIGRTMIN+3",
		LogPath: sb.Config.GetLogDirectory() + "/" + config.GetLogPath(),
	}
	if res := config.GetLinux().GetResources(); res != nil {
		c.Resources = &pod.Resources{LinuxContainerResources: res}
	}
	for _, m := range config.GetMounts() {
		done := pod.Mount{ContainerPath: m.GetContainerPath(), HostPath: m.GetHostPath()}
		if m.GetImage() != nil {
			done.Image = "reg/volume@sha256:456"
		}
		c.Mounts = append(c.Mounts, done)
	}
	for id, old := range n.containers {
		if old.Key() == c.Key() {
			return id, nil
		}
	}
	n.containers[c.ID] = c
	n.publish(pod.ContainerCreated, sb, &c)
	return c.ID, nil
}

func (n *node) StartContainer(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, err := find(n.containers, "container", id)
	if err != nil {
		return err
	}
	if err := pod.CheckContainerMove(c.State, pod.Starting); err != nil {
		return err
	}
	c.State, c.StartedAt = pod.Running, n.tick()
	n.containers[c.ID] = c
	n.publish(pod.ContainerStarted, n.sandboxes[c.SandboxID], &c)
	return nil
}

func (n *node) StopContainer(_ context.Context, id string, timeout time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, err := find(n.containers, "container", id)
	if err == nil {
		n.exit(c, 143)
	}
	return err
}

func (n *node) exit(c pod.Container, code int32) {
	if c.State == pod.Exited {
		return
	}
	c.State, c.FinishedAt = pod.Exited, n.tick()
	c.Exit = &pod.Exit{Code: code, Signal: int(code) - 128, Source: "monitor", Message: "it was stopped"}
	n.containers[c.ID] = c
	n.publish(pod.ContainerExited, n.sandboxes[c.SandboxID], &c)
}

func (n *node) remove(c pod.Container) {
	n.exit(c, 137)
	c = n.containers[c.ID]
	delete(n.containers, c.ID)
	n.publish(pod.ContainerRemoved, n.sandboxes[c.SandboxID], &c)
}

func (n *node) RemoveContainer(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, err := find(n.containers, "container", id)
	if err == nil {
		n.remove(c)
	}
	return err
}

func (n *node) Container(id string) (pod.Container, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return find(n.containers, "container", id)
}

func (n *node) Containers() []pod.Container {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.of("")
}

func (n *node) ContainersOf(sandbox pod.ID) []pod.Container {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.of(sandbox)
}

func (n *node) of(sandbox pod.ID) []pod.Container {
	var all []pod.Container
	for _, c := range n.containers {
		if sandbox == "" || c.SandboxID == sandbox {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b pod.Container) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return all
}

// force puts a container or sandbox into a state that takes a real runtime to reach.
func (n *node) force(id string, state pod.State) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c, ok := n.containers[pod.ID(id)]; ok {
		c.State = state
		n.containers[c.ID] = c
	}
	if sb, ok := n.sandboxes[pod.ID(id)]; ok {
		sb.State = state
		n.sandboxes[sb.ID] = sb
	}
}

func (n *node) UpdateResources(_ context.Context, id string, res *runtime.LinuxContainerResources) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, err := find(n.containers, "container", id)
	if err != nil {
		return err
	}
	c.Resources = &pod.Resources{LinuxContainerResources: res}
	n.containers[c.ID] = c
	return nil
}

func (n *node) runs(id string) (pod.Container, error) {
	c, err := n.Container(id)
	if err == nil && c.State != pod.Running {
		err = fmt.Errorf("container %s: %w: it is %s, not running", c.ID.Short(), pod.ErrState, c.State)
	}
	return c, err
}

// CheckpointContainer is that of a host without criu.
func (n *node) CheckpointContainer(_ context.Context, id, _ string, _ time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := find(n.containers, "container", id); err != nil {
		return err
	}
	return fmt.Errorf("%w: checkpoints need criu", pod.ErrUnsupported)
}

// CheckpointPod and RestorePod are those of a host without criu, too.
func (n *node) CheckpointPod(_ context.Context, id, _ string, _ []string, _ map[string]string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := find(n.sandboxes, "sandbox", id); err != nil {
		return err
	}
	return fmt.Errorf("%w: checkpoints need criu", pod.ErrUnsupported)
}

func (n *node) RestorePod(context.Context, string, *runtime.PodSandboxConfig, string, []*runtime.ContainerConfig, map[string]string) (pod.ID, []lifecycle.Restored, error) {
	return "", nil, fmt.Errorf("%w: checkpoints need criu", pod.ErrUnsupported)
}

func (n *node) ReopenLog(_ context.Context, id string) error {
	_, err := n.runs(id)
	return err
}

func (n *node) ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (lifecycle.ExecResult, error) {
	if _, err := n.runs(id); err != nil {
		return lifecycle.ExecResult{}, err
	}
	return n.execSync(ctx, cmd, timeout)
}

func (n *node) Exec(_ context.Context, id string, r lifecycle.ExecRequest) (int32, error) {
	fmt.Fprintf(r.Stdout, "%s in %s", strings.Join(r.Cmd, " "), id)
	return 7, nil
}

func (n *node) Attach(_ context.Context, id string, r lifecycle.AttachRequest) error {
	_, err := fmt.Fprintf(r.Stdout, "attached to %s", id)
	return err
}

func (n *node) PortForward(_ context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	_, err := fmt.Fprintf(stream, "port %d of %s", port, id)
	return err
}

func (n *node) ContainerStats(_ context.Context, id string) (lifecycle.Stats, error) {
	c, err := n.Container(id)
	if err != nil {
		return lifecycle.Stats{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.broken[c.ID]; err != nil {
		return lifecycle.Stats{}, err
	}
	return lifecycle.Stats{Container: c, At: n.tick(), Cgroup: n.figures(), RootfsBytes: 4096, RootfsInodes: 3, RootfsPath: "/data"}, nil
}

func (n *node) SandboxFigures(ctx context.Context, id string) (lifecycle.SandboxStats, error) {
	return n.SandboxStats(ctx, id)
}

func (n *node) SandboxStats(ctx context.Context, id string) (lifecycle.SandboxStats, error) {
	sb, err := n.Sandbox(id)
	if err == nil {
		err = n.broken[sb.ID]
	}
	if err != nil {
		return lifecycle.SandboxStats{}, err
	}
	stats := lifecycle.SandboxStats{Sandbox: sb, Interfaces: []lifecycle.Interface{
		{Name: "lo", RxBytes: 9}, {Name: "net1", RxBytes: 5}, {Name: "eth0", RxBytes: 1, RxErrors: 2, TxBytes: 3, TxErrors: 4},
	}}
	for _, c := range n.ContainersOf(sb.ID) {
		if one, err := n.ContainerStats(ctx, string(c.ID)); err == nil && c.State == pod.Running {
			stats.Containers = append(stats.Containers, one)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	stats.At, stats.Cgroup = n.tick(), n.figures()
	if n.fill != nil {
		n.fill(&stats)
	}
	return stats, nil
}

func (n *node) InspectContainer(id string) (map[string]string, error) {
	_, err := n.Container(id)
	return map[string]string{"info": `{"pid":42}`}, err
}

func (n *node) InspectSandbox(id string) (map[string]string, error) {
	_, err := n.Sandbox(id)
	return map[string]string{"info": `{"pid":0}`}, err
}

func (n *node) NetworkReady() error  { return n.networkDown }
func (n *node) CgroupDriver() string { return "systemd" }
func (n *node) HugepageSizes() []string {
	if n.smallPages {
		return nil
	}
	return []string{"2MB"}
}
func (n *node) Operations() []lifecycle.Operation { return nil }
func (n *node) Handlers() []lifecycle.HandlerInfo {
	return []lifecycle.HandlerInfo{{Name: "", RecursiveReadOnlyMounts: true}, {Name: "native", RecursiveReadOnlyMounts: true}}
}

func (n *node) CheckHandler(name string) error {
	if name != "" && name != "native" {
		return fmt.Errorf("%w: unknown runtime handler %q", pod.ErrInvalid, name)
	}
	return nil
}

// subscription is a bounded queue that is cut off when it is full.
type subscription struct {
	node   *node
	events chan *pod.Event
	lost   bool
}

func (n *node) subscribe(buffer int) cri.Subscription {
	s := &subscription{node: n, events: make(chan *pod.Event, buffer)}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.subs[s] = struct{}{}
	return s
}

func (s *subscription) Events() <-chan *pod.Event { return s.events }

func (s *subscription) Lost() bool {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	return s.lost
}

func (s *subscription) Close() {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	s.drop(s.lost)
}

func (s *subscription) drop(lost bool) {
	if _, live := s.node.subs[s]; live {
		delete(s.node.subs, s)
		s.lost = lost
		close(s.events)
	}
}

func (n *node) publish(kind pod.EventKind, sb pod.Sandbox, c *pod.Container) {
	n.seq++
	e := pod.Event{Seq: n.seq, Time: n.tick(), Kind: kind, Sandbox: sb, Container: c, Siblings: n.of(sb.ID)}
	for s := range n.subs {
		select {
		case s.events <- &e:
		default:
			s.drop(true)
		}
	}
}

// shelf keeps images in memory; pulling one makes it.
type shelf struct {
	mu     sync.Mutex // guards images
	images map[string]image.Image
	last   image.PullRequest
	fails  error
}

func newShelf() *shelf { return &shelf{images: map[string]image.Image{}} }

func (s *shelf) Pull(_ context.Context, r image.PullRequest) (image.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last = r; s.fails != nil {
		return image.Image{}, s.fails
	}
	one := image.Image{ID: "id-of-" + r.Ref, RepoTags: []string{r.Ref}, RepoDigests: []string{"x@sha256:1"}, Size: 10, User: "1000:7", Pinned: true, Digest: "sha256:1"}
	s.images[r.Ref] = one
	return one, nil
}

func (s *shelf) Status(_ context.Context, ref string) (image.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, one := range s.images {
		if name == ref || one.ID == ref {
			return one, nil
		}
	}
	return image.Image{}, fmt.Errorf("image %q: %w", ref, pod.ErrNotFound)
}

func (s *shelf) List(context.Context) ([]image.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []image.Image
	for _, one := range s.images {
		all = append(all, one)
	}
	return all, nil
}

func (s *shelf) Remove(_ context.Context, ref string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.images, ref)
	return nil
}

func (s *shelf) FsInfo(context.Context) (image.FsInfo, error) {
	return image.FsInfo{
		Mountpoint: "/data", At: time.Unix(5, 0), Images: image.Usage{Bytes: 100, Inodes: 10}, Containers: image.Usage{Bytes: 7, Inodes: 2},
	}, nil
}
