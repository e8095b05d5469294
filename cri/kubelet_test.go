package cri_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/cri"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/golden"
)

// kubelet is a client of a real gRPC server on a unix socket, with the limits of
// the real one.
type kubelet struct {
	runtime.RuntimeServiceClient
	runtime.ImageServiceClient
	t      testing.TB
	conn   *grpc.ClientConn
	node   *node
	shelf  *shelf
	server *cri.Server
}

func newKubelet(t testing.TB, change ...func(*cri.Config)) *kubelet {
	t.Helper()
	k := &kubelet{t: t, node: newNode(), shelf: newShelf()}
	config := cri.Config{Pods: k.node, Images: k.shelf, Subscribe: k.node.subscribe, Version: "1.2.3", Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&config)
	}
	server, err := cri.New(config)
	if err != nil {
		t.Fatal(err)
	}
	k.server = server
	g := grpc.NewServer(cri.ServerOption())
	server.Register(g)
	dir, err := os.MkdirTemp("", "cri") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- g.Serve(listener) }()
	conn, err := grpc.NewClient("unix:"+filepath.Join(dir, "s"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Close()
		conn.Close()
		g.GracefulStop()
		<-served
		os.RemoveAll(dir)
	})
	k.conn = conn
	k.RuntimeServiceClient, k.ImageServiceClient = runtime.NewRuntimeServiceClient(conn), runtime.NewImageServiceClient(conn)
	return k
}

func sandboxConfig(name string) *runtime.PodSandboxConfig {
	return &runtime.PodSandboxConfig{
		Metadata:     &runtime.PodSandboxMetadata{Name: name, Namespace: "shop", Uid: "uid-" + name, Attempt: 1},
		Hostname:     name,
		LogDirectory: "/var/log/pods/" + name,
		Labels:       map[string]string{"app": name, "tier": "front"},
		Annotations:  map[string]string{"note": "as given"},
		Linux: &runtime.LinuxPodSandboxConfig{SecurityContext: &runtime.LinuxSandboxSecurityContext{
			NamespaceOptions: &runtime.NamespaceOption{Network: runtime.NamespaceMode_POD, Pid: runtime.NamespaceMode_CONTAINER},
		}},
	}
}

func containerConfig(name string, attempt uint32) *runtime.ContainerConfig {
	return &runtime.ContainerConfig{
		Metadata: &runtime.ContainerMetadata{Name: name, Attempt: attempt},
		Image:    &runtime.ImageSpec{Image: "abc", UserSpecifiedImage: "reg/app:v1"},
		LogPath:  fmt.Sprintf("%s/%d.log", name, attempt),
		Labels:   map[string]string{"app": name, "role": "main"}, Annotations: map[string]string{"note": "as given"},
		Mounts: []*runtime.Mount{
			{ContainerPath: "/data", HostPath: "/srv", Readonly: true},
			{ContainerPath: "/model", Image: &runtime.ImageSpec{Image: "def"}, ImageSubPath: "weights", Readonly: true},
		},
		Linux: &runtime.LinuxContainerConfig{Resources: &runtime.LinuxContainerResources{CpuShares: 512, MemoryLimitInBytes: 1 << 28}},
	}
}

func (k *kubelet) run(name string) string {
	k.t.Helper()
	r, err := k.RunPodSandbox(k.t.Context(), &runtime.RunPodSandboxRequest{Config: sandboxConfig(name), RuntimeHandler: "native"})
	if err != nil {
		k.t.Fatal(err)
	}
	return r.GetPodSandboxId()
}

func (k *kubelet) create(sandbox, name string, attempt uint32) string {
	k.t.Helper()
	r, err := k.CreateContainer(k.t.Context(), &runtime.CreateContainerRequest{PodSandboxId: sandbox, Config: containerConfig(name, attempt)})
	if err != nil {
		k.t.Fatal(err)
	}
	return r.GetContainerId()
}

// running makes a pod with a running container.
func (k *kubelet) running(name string, attempt uint32) (sandbox, container string) {
	k.t.Helper()
	sandbox = k.run(name)
	container = k.create(sandbox, name, attempt)
	if _, err := k.StartContainer(k.t.Context(), &runtime.StartContainerRequest{ContainerId: container}); err != nil {
		k.t.Fatal(err)
	}
	return sandbox, container
}

// drain receives a stream to its end.
func drain[M any](stream grpc.ServerStreamingClient[M], err error) ([]*M, error) {
	if err != nil {
		return nil, err
	}
	var all []*M
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
	if text := status.Convert(err).Message(); bytes.ContainsAny([]byte(text), "\n\r") || (err != nil && text == "") {
		t.Errorf("%s: the message is not one line: %q", what, text)
	}
}

// checkMessage compares a message with testdata/NAME.json. Random IDs become "ID".
func checkMessage(t *testing.T, name string, m proto.Message) {
	t.Helper()
	raw, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(anonymous(tree), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, filepath.Join("testdata", name+".json"), string(got)+"\n")
}

func anonymous(tree any) any {
	switch node := tree.(type) {
	case map[string]any:
		for key := range node {
			node[key] = anonymous(node[key])
		}
	case []any:
		for i := range node {
			node[i] = anonymous(node[i])
		}
	case string:
		if _, err := pod.ParseID(node); err == nil {
			return "ID"
		}
	}
	return tree
}
