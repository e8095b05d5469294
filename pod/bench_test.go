package pod

import (
	"os"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Six to seven times per container, on tmpfs as in a running daemon.
func BenchmarkPutContainer(b *testing.B) {
	dir, err := os.MkdirTemp("/dev/shm", "vitrine-pod-bench")
	if err != nil {
		b.Skip(err)
	}
	defer os.RemoveAll(dir)
	store, err := OpenStore(dir)
	if err != nil {
		b.Fatal(err)
	}
	c := Container{
		ID: NewID(), SandboxID: NewID(), State: Running, CreatedAt: time.Now(), StartedAt: time.Now(), Rootfs: "/var/lib/vitrine/storage/rootfs/x/merged",
		Config: ContainerConfig{ContainerConfig: &runtime.ContainerConfig{
			Metadata: &runtime.ContainerMetadata{Name: "app"}, Image: &runtime.ImageSpec{Image: "registry.example/shop/web:1.2"},
			Command: []string{"/bin/app"}, Args: []string{"--port", "8080"}, LogPath: "app/0.log",
			Labels: map[string]string{"io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.container.name": "app"},
			Envs:   []*runtime.KeyValue{{Key: "KUBERNETES_SERVICE_HOST", Value: []byte("10.0.0.1")}, {Key: "KUBERNETES_SERVICE_PORT", Value: []byte("443")}},
			Mounts: []*runtime.Mount{{ContainerPath: "/etc/hosts", HostPath: "/var/lib/kubelet/pods/x/etc-hosts"}},
		}},
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := store.PutContainer(c); err != nil {
			b.Fatal(err)
		}
	}
}
