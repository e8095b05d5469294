package cri_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
	crierrors "k8s.io/cri-api/pkg/errors"

	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/pod"
)

func TestErrorsHaveTheirCode(t *testing.T) {
	k := newKubelet(t)
	for want, err := range map[codes.Code]error{
		codes.InvalidArgument:    pod.ErrInvalid,
		codes.NotFound:           pod.ErrNotFound,
		codes.AlreadyExists:      pod.ErrExists,
		codes.FailedPrecondition: pod.ErrState,
		codes.PermissionDenied:   pod.ErrDenied,
		codes.ResourceExhausted:  pod.ErrExhausted,
		codes.Unimplemented:      pod.ErrUnsupported,
		codes.DeadlineExceeded:   pod.ErrDeadline,
		codes.Unavailable:        pod.ErrUnavailable,
		codes.Canceled:           context.Canceled,
		codes.Internal:           pod.ErrBug,
		codes.Unknown:            errors.New("read x: input/output error"),
	} {
		k.shelf.fails = fmt.Errorf("pull image x: %w", err)
		_, got := k.PullImage(t.Context(), &runtime.PullImageRequest{Image: &runtime.ImageSpec{Image: "x"}})
		wantCode(t, err.Error(), got, want)
		if text := status.Convert(got).Message(); text != k.shelf.fails.Error() {
			t.Errorf("the message became %q", text)
		}
	}
}

// Kubelet strips the code Unknown, and then looks at how the text begins.
func TestPrefixesThatKubeletParsesComeFirst(t *testing.T) {
	k := newKubelet(t)
	for want, sentinel := range map[error]error{
		crierrors.ErrRegistryUnavailable:       pod.ErrRegistryUnavailable,
		crierrors.ErrSignatureValidationFailed: pod.ErrSignatureValidationFailed,
		crierrors.ErrRROUnsupported:            pod.ErrRROUnsupported,
		crierrors.ErrImageVolumeMountFailed:    pod.ErrImageVolumeMountFailed,
	} {
		for _, err := range []error{
			fmt.Errorf("%w: dial tcp: timeout", sentinel),
			fmt.Errorf("pull image x: %w: dial tcp: %w", sentinel, context.DeadlineExceeded),
			fmt.Errorf("pull image x: %w", sentinel),
			fmt.Errorf("pull image x: %w", errors.Join(errors.New("first"), sentinel)),
		} {
			k.shelf.fails = err
			_, got := k.PullImage(t.Context(), &runtime.PullImageRequest{Image: &runtime.ImageSpec{Image: "x"}})
			wantCode(t, err.Error(), got, codes.Unknown)
			if text := status.Convert(got).Message(); !strings.HasPrefix(text, want.Error()+": ") {
				t.Errorf("%q became %q", err, text)
			}
		}
	}
}

func TestLongAndBrokenErrorTextStillArrives(t *testing.T) {
	k := newKubelet(t)
	k.shelf.fails = errors.New("line one\nline two\xff " + strings.Repeat("é", 1<<20))
	_, err := k.PullImage(t.Context(), &runtime.PullImageRequest{Image: &runtime.ImageSpec{Image: "x"}})
	wantCode(t, "PullImage", err, codes.Unknown)
	text := status.Convert(err).Message()
	if len(text) > 4200 || !strings.HasPrefix(text, "line one; line two\uFFFD") || !strings.HasSuffix(text, "bytes more)") {
		t.Errorf("got %d bytes: %.40q…", len(text), text)
	}
}

func TestPanicFailsOneCall(t *testing.T) {
	k := newKubelet(t)
	_, id := k.running("web", 0)
	k.node.execSync = func(context.Context, []string, time.Duration) (lifecycle.ExecResult, error) { panic("no such luck") }
	_, err := k.ExecSync(t.Context(), &runtime.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}})
	wantCode(t, "ExecSync", err, codes.Internal)
	if _, err := k.Version(t.Context(), &runtime.VersionRequest{}); err != nil {
		t.Errorf("the server is gone: %v", err)
	}
}

func TestWrongRequestsNameTheField(t *testing.T) {
	k := newKubelet(t)
	sandbox, container := k.running("web", 0)
	sb := func(change func(*runtime.PodSandboxConfig)) proto.Message {
		config := sandboxConfig("bad")
		change(config)
		return &runtime.RunPodSandboxRequest{Config: config}
	}
	c := func(change func(*runtime.ContainerConfig)) proto.Message {
		config := containerConfig("bad", 0)
		change(config)
		return &runtime.CreateContainerRequest{PodSandboxId: sandbox, Config: config}
	}
	for i, bad := range []struct {
		field   string
		request proto.Message
	}{
		{"config", &runtime.RunPodSandboxRequest{}},
		{"config.metadata", sb(func(c *runtime.PodSandboxConfig) { c.Metadata = nil })},
		{"config.metadata.name", sb(func(c *runtime.PodSandboxConfig) { c.Metadata.Name = "" })},
		{"config.metadata.name", sb(func(c *runtime.PodSandboxConfig) { c.Metadata.Name = "a\nb" })},
		{"config.metadata.namespace", sb(func(c *runtime.PodSandboxConfig) { c.Metadata.Namespace = "" })},
		{"config.metadata.uid", sb(func(c *runtime.PodSandboxConfig) { c.Metadata.Uid = "" })},
		{"config.log_directory", sb(func(c *runtime.PodSandboxConfig) { c.LogDirectory = "logs" })},
		{"config.log_directory", sb(func(c *runtime.PodSandboxConfig) { c.LogDirectory = "/var/log/../../etc" })},
		{"config.dns_config.servers[0]", sb(func(c *runtime.PodSandboxConfig) {
			c.DnsConfig = &runtime.DNSConfig{Servers: []string{"1.1.1.1\noptions debug"}}
		})},
		{"config.dns_config.searches[1]", sb(func(c *runtime.PodSandboxConfig) {
			c.DnsConfig = &runtime.DNSConfig{Searches: []string{"a", "b c"}}
		})},
		{"config.port_mappings[0].host_port", sb(func(c *runtime.PodSandboxConfig) {
			c.PortMappings = []*runtime.PortMapping{{HostPort: 70000, ContainerPort: 80}}
		})},
		{"config.port_mappings[0].container_port", sb(func(c *runtime.PodSandboxConfig) {
			c.PortMappings = []*runtime.PortMapping{{HostPort: 80}}
		})},
		{"config.port_mappings[0].host_ip", sb(func(c *runtime.PodSandboxConfig) {
			c.PortMappings = []*runtime.PortMapping{{HostPort: 80, ContainerPort: 80, HostIp: "localhost"}}
		})},
		{"unknown runtime handler", &runtime.RunPodSandboxRequest{Config: sandboxConfig("bad"), RuntimeHandler: "none"}},
		{"pod_sandbox_id", &runtime.StopPodSandboxRequest{}},
		{"pod_sandbox_id", &runtime.RemovePodSandboxRequest{}},
		{"pod_sandbox_id", &runtime.PodSandboxStatusRequest{}},
		{"pod_sandbox_id", &runtime.CreateContainerRequest{Config: containerConfig("bad", 0)}},
		{"config", &runtime.CreateContainerRequest{PodSandboxId: sandbox}},
		{"config.metadata", c(func(c *runtime.ContainerConfig) { c.Metadata = nil })},
		{"config.metadata.name", c(func(c *runtime.ContainerConfig) { c.Metadata.Name = "" })},
		{"config.image.image", c(func(c *runtime.ContainerConfig) { c.Image = nil })},
		{"config.log_path", c(func(c *runtime.ContainerConfig) { c.LogPath = "../../etc/cron.d/x" })},
		{"config.log_path", c(func(c *runtime.ContainerConfig) { c.LogPath = "/etc/passwd" })},
		{"config.mounts[0].container_path", c(func(c *runtime.ContainerConfig) { c.Mounts[0].ContainerPath = "" })},
		{"config.mounts[0]", c(func(c *runtime.ContainerConfig) { c.Mounts[0].HostPath = "" })},
		{"config.mounts[1].image_sub_path", c(func(c *runtime.ContainerConfig) { c.Mounts[1].ImageSubPath = "../x" })},
		{"container_id", &runtime.StartContainerRequest{}},
		{"container_id", &runtime.StopContainerRequest{}},
		{"container_id", &runtime.RemoveContainerRequest{}},
		{"container_id", &runtime.ContainerStatusRequest{}},
		{"container_id", &runtime.ReopenContainerLogRequest{}},
		{"container_id", &runtime.ContainerStatsRequest{}},
		{"pod_sandbox_id", &runtime.PodSandboxStatsRequest{}},
		{"linux", &runtime.UpdateContainerResourcesRequest{ContainerId: container}},
		{"cmd", &runtime.ExecSyncRequest{ContainerId: container}},
		{"timeout", &runtime.ExecSyncRequest{ContainerId: container, Cmd: []string{"a"}, Timeout: -1}},
		{"cmd", &runtime.ExecRequest{ContainerId: container, Stdout: true}},
		{"tty and stderr", &runtime.ExecRequest{ContainerId: container, Cmd: []string{"a"}, Tty: true, Stdout: true, Stderr: true}},
		{"at least one", &runtime.ExecRequest{ContainerId: container, Cmd: []string{"a"}}},
		{"tty and stderr", &runtime.AttachRequest{ContainerId: container, Tty: true, Stderr: true}},
		{"at least one", &runtime.AttachRequest{ContainerId: container}},
		{"port[1]", &runtime.PortForwardRequest{PodSandboxId: sandbox, Port: []int32{80, 0}}},
		{"image.image", &runtime.PullImageRequest{}},
		{"unknown runtime handler", &runtime.PullImageRequest{Image: &runtime.ImageSpec{Image: "x", RuntimeHandler: "none"}}},
		{"image.image", &runtime.ImageStatusRequest{Image: &runtime.ImageSpec{}}},
		{"image.image", &runtime.RemoveImageRequest{}},
	} {
		what := fmt.Sprintf("%d %T", i, bad.request)
		err := k.conn.Invoke(t.Context(), method(bad.request), bad.request, answer())
		wantCode(t, what, err, codes.InvalidArgument)
		if !strings.Contains(status.Convert(err).Message(), bad.field) {
			t.Errorf("%s: %q does not name %s", what, status.Convert(err).Message(), bad.field)
		}
	}
	if len(k.node.Sandboxes()) != 1 || len(k.node.Containers()) != 1 {
		t.Error("a wrong request made something")
	}
}

// method is the full name of the RPC that takes a request of this type.
func method(request proto.Message) string {
	name := strings.TrimSuffix(string(request.ProtoReflect().Descriptor().Name()), "Request")
	for _, desc := range []grpc.ServiceDesc{runtime.RuntimeService_ServiceDesc, runtime.ImageService_ServiceDesc} {
		for _, m := range desc.Methods {
			if m.MethodName == name {
				return "/" + desc.ServiceName + "/" + name
			}
		}
	}
	panic("no method takes " + name)
}

// answer is an empty message; what it would hold is of no interest.
func answer() proto.Message { return &runtime.GetEventsRequest{} }

// Every method of both services does its work or refuses an empty request; none panics.
func TestEveryMethodAnswersAnEmptyRequest(t *testing.T) {
	k := newKubelet(t)
	check := func(name string, err error) {
		code := status.Code(err)
		if code != codes.OK && code != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, desc := range []grpc.ServiceDesc{runtime.RuntimeService_ServiceDesc, runtime.ImageService_ServiceDesc} {
		for _, m := range desc.Methods {
			check(m.MethodName, k.conn.Invoke(t.Context(), "/"+desc.ServiceName+"/"+m.MethodName, &runtime.VersionRequest{}, answer()))
		}
		for _, m := range desc.Streams {
			if m.StreamName == "GetContainerEvents" {
				continue // it has no end; see events_test.go
			}
			stream, err := k.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/"+desc.ServiceName+"/"+m.StreamName)
			if err != nil {
				t.Fatal(err)
			}
			stream.SendMsg(&runtime.VersionRequest{})
			stream.CloseSend()
			if err = stream.RecvMsg(answer()); err != nil && err.Error() == "EOF" {
				err = nil
			}
			check(m.StreamName, err)
		}
	}
}
