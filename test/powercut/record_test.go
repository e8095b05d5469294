package powercut_test

import (
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// TestWorkUntilThePowerGoes pulls and removes images and runs pods on a disk whose
// writes are logged, and then resets the machine in the midst of it. Both directories
// of the daemon lie on that disk: where the state is on tmpfs, the second machine
// removes it.
func TestWorkUntilThePowerGoes(t *testing.T) {
	disk := disks(t)[0]
	mount(t, disk)
	t.Setenv("TMPDIR", mountPoint)
	conf, _ := registryBeside(t)
	d := harness.Must(harness.NewDaemon(harness.Options{RegistriesConf: conf, CNI: "none", LogLevel: "info", Config: "[ebpf]\ndisabled = true\n"}))(t)
	furnished(t)
	marks := openMarks(t, disk)
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	cri := d.Client(t)
	ctx := harness.Context(t, 3*time.Minute)
	pull := func(i int) {
		harness.Must(cri.Pull(ctx, ref(i)))(t)
		marks.put(t, "pulled", ref(i))
	}
	marks.put(t, "began", d.Name)
	pull(0)

	var cycles atomic.Int32
	work := make(chan error, 1)
	go func() { // ends with the machine
		for {
			if err := cycle(t, d, cri); err != nil {
				work <- err
				return
			}
			cycles.Add(1)
		}
	}()
	for i := 1; i < images/2; i++ {
		pull(i)
	}
	journals := func() []os.DirEntry {
		return harness.Must(os.ReadDir(filepath.Join(d.Data(), "storage/unsynced")))(t)
	}
	// What the daemon holds for durable must be there after every later cut.
	waitFor(t, work, "the journals of layers to be settled", func() bool {
		return len(journals()) == 0
	})
	for i := range images / 2 {
		marks.put(t, "settled", ref(i))
	}
	marks.put(t, "removing", ref(1))
	if _, err := cri.RemoveImage(ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: ref(1)}}); err != nil {
		t.Fatal(err)
	}
	for i := images / 2; i < images-1; i++ {
		pull(i)
	}
	waitFor(t, work, "pods to come and go", func() bool { return cycles.Load() > 0 })
	// One more is under way at the end: its journal is there.
	before := journals()
	pulled := make(chan struct{})
	go func() {
		cri.Pull(ctx, ref(images-1))
		close(pulled)
	}()
	waitFor(t, work, "the last pull to have begun", func() bool {
		select {
		case <-pulled:
			return true
		default:
		}
		return slices.ContainsFunc(journals(), func(e os.DirEntry) bool {
			return !slices.ContainsFunc(before, func(b os.DirEntry) bool { return b.Name() == e.Name() })
		})
	})
	marks.put(t, "cut", d.Name)
	// Resets at once: nothing is synced, no process ends.
	t.Log(os.WriteFile("/proc/sysrq-trigger", []byte("b"), 0))
	time.Sleep(time.Minute)
	t.Fatal("the machine goes on")
}

// registryBeside keeps the registry's files off the disk.
func registryBeside(t *testing.T) (conf string, n int) {
	t.Helper()
	before := os.Getenv("TMPDIR")
	defer os.Setenv("TMPDIR", before)
	os.Setenv("TMPDIR", "/var/tmp")
	conf, built := registry(t)
	return conf, len(built)
}

// furnished makes what the instance consists of durable: it is no product of the daemon.
func furnished(t *testing.T) {
	t.Helper()
	f, err := os.Open(mountPoint)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		t.Fatal(err)
	}
}

// cycle runs a pod with a container that writes, and leaves every third one alive.
func cycle(t *testing.T, d *harness.Daemon, cri *harness.CRI) error {
	ctx := t.Context()
	p := d.Pod("cut")
	sandbox, err := cri.RunPod(ctx, p)
	if err != nil {
		return err
	}
	if _, err := cri.Run(ctx, sandbox, p, harness.Container(p, "c", ref(0), "/bin/sh", "-c", "dd if=/dev/urandom of=/written bs=4096 count=20; exec sleep 1000")); err != nil {
		return err
	}
	if alive.Add(1)%3 == 0 {
		return nil
	}
	return cri.RemovePod(ctx, sandbox)
}

var alive atomic.Int32

func waitFor(t *testing.T, work <-chan error, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(harness.Scale(3 * time.Minute)); !done(); {
		select {
		case err := <-work:
			t.Fatalf("a pod: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
