package powercut_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/test/fixture"
	"github.com/vitrine-runtime/vitrine/test/harness"
	"github.com/vitrine-runtime/vitrine/test/powercut"
)

// disksEnv names the disks, by their device files: the one to work on, or those that
// were cut. Its absence is an ordinary machine.
const disksEnv = "VITRINE_TEST_POWERCUT_DISKS"

// mountPoint is short because sockets lie below it (sun_path), and the same in both
// machines because an instance knows its place.
const mountPoint = "/cut"

func disks(t *testing.T) []string {
	list := strings.Fields(os.Getenv(disksEnv))
	if len(list) == 0 {
		t.Skip("this test needs a disk whose power is cut: make test-vm-power")
	}
	return list
}

func mount(t *testing.T, disk string) {
	t.Helper()
	if err := os.MkdirAll(mountPoint, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(disk, mountPoint, "ext4", 0, ""); err != nil {
		t.Fatalf("mount %s: %v", disk, err)
	}
}

// marker writes marks to the end of a disk, past the page cache: a mark is in the log
// of writes when put returns.
type marker struct {
	disk *os.File
	at   int64
}

func openMarks(t *testing.T, disk string) *marker {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &marker{f, diskSize(t, f) - powercut.MarksSize}
}

func diskSize(t *testing.T, f *os.File) int64 {
	t.Helper()
	size, err := f.Seek(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	return size
}

func (m *marker) put(t *testing.T, what, whom string) {
	t.Helper()
	t.Log("mark:", what, whom)
	sector, err := powercut.FormatMark(powercut.Mark{What: what, Whom: whom})
	if err != nil {
		t.Fatal(err)
	}
	// Direct I/O wants aligned memory, as anonymous mappings are.
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	copy(page, sector)
	if _, err := m.disk.WriteAt(unsafe.Slice(&page[0], len(sector)), m.at); err != nil {
		t.Fatal(err)
	}
	m.at += int64(len(sector))
}

// images are how many both machines know; the second builds them anew, to the byte.
const images = 8

// ref is an image's name, the same in both machines whatever their registry's port is.
func ref(i int) string { return "cut.example/test/" + strconv.Itoa(i) + ":1" }

// files are what an image has beside what all have: a layer of its own, and a second
// one that every other image has, too.
func files(i int) (own, shared []fixture.File) {
	many := func(dir string, seed uint64) []fixture.File {
		chance := rand.New(rand.NewPCG(seed, 0))
		list := []fixture.File{{Name: dir + "/"}}
		for n := range 100 {
			body := make([]byte, chance.IntN(24<<10))
			for k := range body {
				body[k] = byte(chance.Uint32())
			}
			list = append(list, fixture.File{Name: fmt.Sprintf("%s/%d", dir, n), Mode: 0o644, Body: body})
		}
		return list
	}
	own = many("own", uint64(i)+1)
	if i%2 == 1 {
		shared = many("shared", 1000)
	}
	return own, shared
}

func build(t *testing.T, i int) fixture.Built {
	t.Helper()
	image := harness.Must(fixture.Busybox(v1.ImageConfig{Cmd: []string{"/bin/sleep", "86400"}}))(t)
	image.Layers = append(image.Layers, fixture.Layer{Files: []fixture.File{{Name: "bin/payload", Body: harness.Must(harness.Payload())(t)}}})
	own, shared := files(i)
	if shared != nil {
		image.Layers = append(image.Layers, fixture.Layer{Files: shared, Compression: fixture.Zstd})
	}
	image.Layers = append(image.Layers, fixture.Layer{Files: own})
	return harness.Must(fixture.Build(image))(t)
}

// whole compares what a container sees with what its image has.
func whole(root string, i int) error {
	own, shared := files(i)
	payload, err := harness.Payload()
	if err != nil {
		return err
	}
	for _, f := range append(append(own, shared...), fixture.File{Name: "bin/payload", Body: payload}) {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		got, err := os.ReadFile(filepath.Join(root, f.Name))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, f.Body) {
			return fmt.Errorf("%s has %d bytes that are not the %d of the image", f.Name, len(got), len(f.Body))
		}
	}
	return nil
}

// registry serves all images, under names that do not tell its port.
func registry(t *testing.T) (conf string, built []fixture.Built) {
	t.Helper()
	reg := harness.Must(fixture.Start(t.Context(), ""))(t)
	t.Cleanup(func() { reg.Close() })
	for i := range images {
		b := build(t, i)
		harness.Must(fixture.Push(t.Context(), reg.Addr, strings.TrimPrefix(ref(i), "cut.example/"), b))(t)
		built = append(built, b)
	}
	return fmt.Sprintf("short-name-mode = \"disabled\"\n[[registry]]\nprefix = \"cut.example\"\nlocation = %q\ninsecure = true\n", reg.Addr), built
}
