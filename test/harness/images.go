package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/vitrine-runtime/vitrine/test/fixture"
)

// Hub is a loopback registry with the test image in it.
type Hub struct {
	*fixture.Registry
	// Image is busybox with the payload program at /bin/payload.
	Image string
}

// RunWithHub starts the registry of a test binary, runs its tests and returns the exit
// status for TestMain. What could not be started is told on standard error.
func RunWithHub(hub **Hub, run func() int) int {
	h, err := StartHub(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer h.Close()
	*hub = h
	return run()
}

// StartHub runs a registry and pushes the test image. The caller closes it.
func StartHub(ctx context.Context) (*Hub, error) {
	reg, err := fixture.Start(ctx, "")
	if err != nil {
		return nil, err
	}
	image, err := TestImage()
	if err != nil {
		reg.Close()
		return nil, err
	}
	pushed, err := fixture.BuildImage(ctx, reg.Addr, "test/box:1", image)
	if err != nil {
		reg.Close()
		return nil, fmt.Errorf("push the test image: %w", err)
	}
	return &Hub{reg, pushed.Ref}, nil
}

// TestImage is busybox with a second layer that holds the payload program.
func TestImage() (fixture.Image, error) {
	image, err := fixture.Busybox(v1.ImageConfig{Cmd: []string{"/bin/sleep", "86400"}})
	if err != nil {
		return image, err
	}
	program, err := payload()
	if err != nil {
		return image, err
	}
	image.Layers = append(image.Layers, fixture.Layer{Files: []fixture.File{{Name: "bin/payload", Body: program}}})
	return image, nil
}

// Payload is the static test program, for root file systems that are no image's.
func Payload() ([]byte, error) { return payload() }

// payload is the static test program; beside the binaries when they are prebuilt,
// compiled once per process otherwise.
var payload = sync.OnceValues(func() ([]byte, error) {
	if dir := os.Getenv(BinEnv); dir != "" {
		return os.ReadFile(filepath.Join(dir, "payload"))
	}
	dir, err := os.MkdirTemp("", "payload")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+"/payload", "github.com/vitrine-runtime/vitrine/test/payload")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the payload: %w\n%s", err, out)
	}
	return os.ReadFile(dir + "/payload")
})
