package powercut_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
	"github.com/vitrine-runtime/vitrine/test/powercut"
)

// TestNothingIsHalfAfterAPowerCut starts the daemon on each disk as a power cut left it,
// by turns with the state directory as it was (a disk's) and empty (a tmpfs).
func TestNothingIsHalfAfterAPowerCut(t *testing.T) {
	list := disks(t)
	conf, built := registry(t)
	for i, disk := range list {
		name, forget := "state kept", i%2 == 1
		if forget {
			name = "state on tmpfs"
		}
		t.Run(strconv.Itoa(i)+" "+name, func(t *testing.T) { afterCut(t, disk, conf, built, forget) })
	}
}

func afterCut(t *testing.T, disk, conf string, built []fixture.Built, forget bool) {
	marks, settled := promised(t, disk)
	mount(t, disk) // here the kernel repairs the file system from its journal
	t.Cleanup(func() {
		if err := unix.Unmount(mountPoint, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	found, err := filepath.Glob(mountPoint + "/vt*")
	if err != nil || len(found) != 1 {
		t.Fatalf("instances on the disk: %v, %v", found, err)
	}
	d := harness.Must(harness.OpenDaemon(found[0]))(t)
	if forget {
		must(t, os.RemoveAll(d.State()))
		must(t, os.MkdirAll(d.State(), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(d.Dir, "etc/registries.conf"), []byte(conf), 0o644))
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(d.DaemonLog())
			t.Logf("the daemon's log:\n%s", log[max(0, len(log)-8<<10):])
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := d.Start(t.Context()); err != nil {
		t.Fatalf("the daemon does not start: %v", err)
	}
	cri := d.Client(t)
	ctx := harness.Context(t, 3*time.Minute)

	// Pods of before are gone or have ended, and go away when asked.
	cs := harness.Must(cri.ListContainers(ctx, &runtime.ListContainersRequest{}))(t).Containers
	for _, c := range cs {
		if c.State == runtime.ContainerState_CONTAINER_RUNNING {
			t.Errorf("container %s runs after the machine's reset", c.Id)
		}
	}
	if forget && len(cs) > 0 {
		t.Errorf("%d containers without a record", len(cs))
	}
	must(t, cri.RemoveAll(ctx))

	// What is listed is whole, and what was durable is listed.
	kept := map[int]bool{}
	for _, img := range harness.Must(cri.ListImages(ctx, &runtime.ListImagesRequest{}))(t).Images {
		i := slices.IndexFunc(built, func(b fixture.Built) bool { return "sha256:"+b.ID() == img.Id || b.ID() == img.Id })
		if i < 0 {
			t.Errorf("an image that was never pulled: %v", img)
			continue
		}
		kept[i] = true
		look(t, d, cri, img.Id, i)
	}
	pulled := 0
	for i := range images {
		if slices.Contains(marks, powercut.Mark{What: "pulled", Whom: ref(i)}) {
			pulled++
		}
		if settled[ref(i)] && !kept[i] {
			t.Errorf("%s was durable and is not listed", ref(i))
		}
	}
	t.Logf("%d containers of before; %d images were reported as pulled, %d of them durable, %d are listed", len(cs), pulled, len(settled), len(kept))

	// Everything can be pulled, again or for the first time, and is whole then.
	for i := range images {
		got := harness.Must(cri.Pull(ctx, ref(i)))(t)
		look(t, d, cri, got, i)
	}
	must(t, d.Stop())
	census := harness.Must(d.Instance.Census())(t)
	for _, kind := range []harness.Kind{harness.Processes, harness.Netns, harness.Leases, harness.Mounts} {
		if left := census.Items[kind]; len(left) > 0 {
			t.Errorf("left of the pods of before, and of these: %s: %v", kind, left)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(d.Data(), "storage/rootfs")); len(left) > 0 {
		t.Errorf("root file systems of no container: %v", left)
	}
}

// promised are the marks of a disk, and which images were durable when it was cut and
// not being removed.
func promised(t *testing.T, disk string) (marks []powercut.Mark, settled map[string]bool) {
	f := harness.Must(os.Open(disk))(t)
	defer f.Close()
	marks = harness.Must(powercut.ReadMarks(f, diskSize(t, f)))(t)
	if len(marks) == 0 {
		t.Fatal("the disk has no marks")
	}
	settled = map[string]bool{}
	for _, m := range marks {
		switch m.What {
		case "settled":
			settled[m.Whom] = true
		case "removing":
			delete(settled, m.Whom)
		}
	}
	return marks, settled
}

// look runs a pod with network on the image and compares what it sees with the image.
func look(t *testing.T, d *harness.Daemon, cri *harness.CRI, image string, i int) {
	t.Helper()
	ctx := harness.Context(t, time.Minute)
	p := d.HostPod("look")
	if i == 0 {
		p = d.Pod("look") // once with a network: its addresses are free again
	}
	sandbox := harness.Must(cri.RunPod(ctx, p))(t)
	id := harness.Must(cri.Run(ctx, sandbox, p, harness.Container(p, "c", image, "/bin/payload", "wait")))(t)
	status := harness.Must(cri.ContainerStatus(ctx, &runtime.ContainerStatusRequest{ContainerId: id, Verbose: true}))(t)
	var info struct{ PID int }
	must(t, json.Unmarshal([]byte(status.Info["info"]), &info))
	if err := whole("/proc/"+strconv.Itoa(info.PID)+"/root", i); err != nil {
		t.Errorf("%s is listed and not whole: %v", ref(i), err)
	}
	must(t, cri.RemovePod(ctx, sandbox))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
