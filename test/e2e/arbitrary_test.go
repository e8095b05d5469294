package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
	"github.com/vitrine-runtime/vitrine/test/arbitrary"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

var (
	arbitraryFor  = flag.Duration("arbitrary", 0, "how long to send arbitrary requests; 0 means a few hundred of them")
	arbitrarySeed = flag.Uint64("arbitrary-seed", 1, "what they follow from")
)

// Requests that obey api.proto and nothing else, several at a time, are answered or
// refused with a code that says what to do. None ends the daemon, none is a bug of its
// own, and none leaves anything on the host.
func TestArbitraryRequestsAreAnsweredAndLeaveNothing(t *testing.T) {
	n := start(t, harness.Options{})
	n.ctx = harness.Context(t, 5*time.Minute+2**arbitraryFor)
	// The bridge plugin has the host forward packets from the first pod on.
	n.must(n.cri.RemovePod(n.ctx, harness.Must(n.cri.RunPod(n.ctx, n.Pod("first")))(t)))
	host := hostSettings(t)
	daemon := n.PID()
	until := time.Now().Add(*arbitraryFor)
	var clients sync.WaitGroup
	s := &stranger{node: n, codes: map[string]int{}}
	for i := range uint64(4) {
		clients.Go(func() {
			m := n.arbitrary(*arbitrarySeed*1000 + i)
			for sent := 0; sent < 60 || time.Now().Before(until); sent++ {
				s.send(m)
			}
		})
	}
	clients.Wait()
	for _, line := range slices.Sorted(maps.Keys(s.codes)) {
		t.Logf("%5d %s", s.codes[line], line)
	}
	if now := n.PID(); now != daemon {
		t.Errorf("the daemon was %d and is %d", daemon, now)
	}
	if log := harness.Must(os.ReadFile(n.DaemonLog()))(t); bytes.Contains(log, []byte("a CRI call panicked")) {
		t.Error("the daemon's log tells of a panic")
	}
	if now := hostSettings(t); now != host {
		t.Errorf("the host was\n%s\nand is\n%s", host, now)
	}
	n.idle()
	n.must(n.cri.RemoveAll(n.ctx))
	n.nothingLeft()
}

// idle waits for the end of what requests began and clients no longer wait for.
func (n *node) idle() {
	n.Helper()
	for {
		var s api.Status
		n.must(json.Unmarshal([]byte(harness.Must(n.Get("/v1/status"))(n)), &s))
		if len(s.Operations) == 0 {
			return
		}
		if n.ctx.Err() != nil {
			n.Fatalf("operations are going on: %+v", s.Operations)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// hostSettings is what no pod may change.
func hostSettings(t *testing.T) string {
	var all []string
	for _, file := range []string{"kernel/hostname", "kernel/core_pattern", "kernel/shmmax", "vm/swappiness", "net/ipv4/ip_forward", "kernel/domainname"} {
		raw := harness.Must(os.ReadFile("/proc/sys/" + file))(t)
		all = append(all, file+" "+strings.TrimSpace(string(raw)))
	}
	return strings.Join(all, "\n")
}

// arbitrary makes requests that are about this node. What could harm the host, or other
// tests on it, is one of a few harmless values.
func (n *node) arbitrary(seed uint64) *arbitrary.Maker {
	m := arbitrary.FromSeed(seed)
	m.Large = true
	logs := filepath.Join(n.Dir, "logs")
	files := []string{"", "relative.tar", filepath.Join(n.Dir, "no", "such", "x.tar"), filepath.Join(n.Dir, "archive.tar"), n.Dir + "/../" + filepath.Base(n.Dir) + "/x.tar"}
	m.Words = map[string][]string{
		"name": {"a", "b"}, "uid": {n.Daemon.Name + "-1", n.Daemon.Name + "-2"}, "namespace": {"test"}, "hostname": {"named"},
		"cgroup_parent": {n.CgroupParent() + "/podx", n.PodCgroup("y"), n.CgroupParent() + "/y/../pody", n.PodCgroup("x") + "/"},
		"log_directory": {"", "relative", logs + "/1", logs + "/../logs/2", logs + "/" + strings.Repeat("d", 300), logs + "/a\nb"},
		"log_path":      {"", "a.log", "deep/er/a.log", "../a.log", "/a.log", "."},
		"host_path":     {"", logs, "/dev/null", "/no/such", "relative", logs + "/../logs", n.Dir + "/daemon.log"},
		"image":         {n.image, n.image, hub.Image, hub.Addr + "/no/such:1", "", "UPPER case", "@", "a@sha256:00"},
		"image_ref":     {n.image}, "user_specified_image": {hub.Image},
		"location": files, "output_path": files, "checkpoint_path": files,
		"command": {"/bin/sleep", "true", "cat", "/no/such"}, "args": {"1000", "x"}, "cmd": {"true", "/bin/true", "no-such"},
		"runtime_handler": {"", "native", "warp"},
		"sysctls.key":     {"net.ipv4.ip_forward", "kernel.shmmax", "kernel.core_pattern", "vm.swappiness"}, "sysctls.value": {"0", "1", "1+x=2"},
		"add_capabilities": {"ALL", "NET_ADMIN"}, "drop_capabilities": {"ALL"}, "cpuset_cpus": {"0", "0-1", "9999"}, "page_size": {"2MB"},
		"annotations.key": {"kubernetes.io/ingress-bandwidth", "io.vitrine.log.rate", "io.vitrine.syscalls"},
		"container_path":  {"/m", "/etc/hosts", "/dev/x", "/proc/x", "/sys", "/dev", "m"},
		"masked_paths":    {"/proc/kcore"}, "readonly_paths": {"/proc/sys"},
	}
	m.Only = map[string]bool{
		"cgroup_parent": true, "log_directory": true, "host_path": true, "image": true, "location": true, "output_path": true, "checkpoint_path": true,
		"command": true, "args": true, "cmd": true, "uid": true,
	}
	return m
}

// stranger sends requests that no kubelet would. It is safe for concurrent use.
type stranger struct {
	*node
	mu    sync.Mutex // guards codes
	codes map[string]int
}

// send sends one request and judges the answer.
func (s *stranger) send(m *arbitrary.Maker) {
	pods, containers := s.keepFew(m)
	m.Words["pod_sandbox_id"], m.Words["container_id"] = append(pods, absentID), append(containers, absentID)
	m.Words["id"] = slices.Concat(pods, containers, []string{absentID})
	m.Words["target_id"], m.Words["container_ids"] = m.Words["container_id"], m.Words["container_id"]

	desc := arbitrary.Choose(m, calls())
	request := newMessage(desc.Input().FullName())
	pod := s.HostPod("arbitrary")
	switch r := request.(type) {
	case *runtime.RunPodSandboxRequest:
		if r.Config = pod; m.Next()%3 == 0 {
			r.Config = s.Pod("arbitrary")
		}
		m.Disturb(r, 1+int(m.Next()%5))
		for _, p := range r.GetConfig().GetPortMappings() { // the host's ports are not for this
			p.HostPort = arbitrary.Choose(m, []int32{-1, 0, 70000})
		}
	case *runtime.CreateContainerRequest:
		if len(pods) > 0 {
			r.PodSandboxId = arbitrary.Choose(m, pods)
		}
		r.Config = harness.Container(pod, arbitrary.Choose(m, []string{"a", "b", "c"}), s.image, "/bin/sleep", "1000")
		m.Disturb(r, int(m.Next()%5))
	case *runtime.StartContainerRequest, *runtime.StopContainerRequest, *runtime.ExecSyncRequest, *runtime.UpdateContainerResourcesRequest:
		m.Fill(r)
		if len(containers) > 0 {
			f := r.ProtoReflect().Descriptor().Fields().ByName("container_id")
			r.ProtoReflect().Set(f, protoreflect.ValueOfString(arbitrary.Choose(m, containers)))
		}
	case *runtime.RemoveImageRequest: // the others need it
		r.Image = &runtime.ImageSpec{Image: hub.Addr + "/no/such:1"}
	default:
		m.Fill(r)
	}
	s.judge(desc, request, s.call(desc, request, time.Duration(1+m.Next()%2000)*time.Millisecond))
}

// keepFew lists what there is, and removes a pod when there are many.
func (s *stranger) keepFew(m *arbitrary.Maker) (pods, containers []string) {
	for _, p := range harness.Must(s.cri.ListPodSandbox(s.ctx, &runtime.ListPodSandboxRequest{}))(s).Items {
		pods = append(pods, p.Id)
	}
	if len(pods) > 5 {
		gone := arbitrary.Choose(m, pods)
		if err := s.cri.RemovePod(s.ctx, gone); err != nil {
			s.Errorf("remove pod %.13s: %v", gone, err)
		}
	}
	for _, c := range harness.Must(s.cri.ListContainers(s.ctx, &runtime.ListContainersRequest{}))(s).Containers {
		containers = append(containers, c.Id)
	}
	return pods, containers
}

// calls are all methods of both services, the ones that make something more often.
func calls() (all []protoreflect.MethodDescriptor) {
	services := (&runtime.VersionRequest{}).ProtoReflect().Descriptor().ParentFile().Services()
	for i := range services.Len() {
		for j := range services.Get(i).Methods().Len() {
			m := services.Get(i).Methods().Get(j)
			all = append(all, m)
			switch m.Name() {
			case "RunPodSandbox", "CreateContainer", "StartContainer", "UpdateContainerResources":
				all = append(all, m, m, m, m, m, m)
			}
		}
	}
	return all
}

func newMessage(name protoreflect.FullName) proto.Message {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		panic(err) // the library has all messages of its own descriptors
	}
	return kind.New().Interface()
}

// call sends a request and gives up after the time; of a stream it reads what comes.
func (s *stranger) call(desc protoreflect.MethodDescriptor, request proto.Message, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	path := "/" + string(desc.Parent().FullName()) + "/" + string(desc.Name())
	answer := newMessage(desc.Output().FullName())
	if !desc.IsStreamingServer() {
		return s.cri.Conn.Invoke(ctx, path, request, answer)
	}
	ctx, end := context.WithTimeout(ctx, 20*time.Millisecond)
	defer end()
	stream, err := s.cri.Conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, path)
	if err == nil {
		err = stream.SendMsg(request)
	}
	if err == nil {
		err = stream.CloseSend()
	}
	for err == nil {
		err = stream.RecvMsg(answer)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// meaningful are the codes by which a client knows what to do.
var meaningful = []codes.Code{
	codes.OK, codes.Canceled, codes.InvalidArgument, codes.DeadlineExceeded, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
	codes.ResourceExhausted, codes.FailedPrecondition, codes.Unimplemented, codes.Unavailable,
}

func (s *stranger) judge(desc protoreflect.MethodDescriptor, request proto.Message, err error) {
	code := status.Code(err)
	s.mu.Lock()
	s.codes[fmt.Sprintf("%s %s", desc.Name(), code)]++
	s.mu.Unlock()
	text := status.Convert(err).Message()
	if code == codes.Unknown && (strings.HasPrefix(text, "RegistryUnavailable") || strings.HasPrefix(text, "ImageVolumeMountFailed") || strings.HasPrefix(text, "RROUnsupported")) {
		return // kubelet knows these by their beginning, and only under this code
	}
	if !slices.Contains(meaningful, code) {
		s.Errorf("%s: %s: %.500s\n%.1000s", desc.Name(), code, text, request)
	}
}
