package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/fixture"
)

// bigImages are the images to pull.
var bigImages = []bigImage{
	{fixture.Gzip, 8}, {fixture.Zstd, 8}, {fixture.Gzip, 1}, {fixture.Zstd, 1},
}

type bigImage struct {
	compression fixture.Compression
	layers      int
}

// kind is the name by which --pull-kinds chooses an image.
func (b bigImage) kind() string { return fmt.Sprintf("%s-%d", b.compression, b.layers) }

func (b bigImage) String() string {
	if b.layers == 1 {
		return "one layer, " + string(b.compression)
	}
	return fmt.Sprintf("%d layers, %s", b.layers, b.compression)
}

// A pushedImage is one that the registry has.
type pushedImage struct {
	ref   string
	bytes int64 // of its files
}

// pushed are the images that the registry has.
var pushed = struct {
	sync.Mutex // guards images
	images     map[bigImage]pushedImage
}{images: map[bigImage]pushedImage{}}

func pushBig(ctx context.Context, addr string, big bigImage, mib int) (pushedImage, error) {
	pushed.Lock()
	defer pushed.Unlock()
	if image, known := pushed.images[big]; known {
		return image, nil
	}
	image := fixture.Image{Config: v1.ImageConfig{Cmd: []string{"/none"}}}
	if mib == 0 {
		image.Layers = wordLayers(big.compression, big.layers)
	} else {
		var err error
		if image.Layers, err = programLayers(big.compression, big.layers, int64(mib)); err != nil {
			return pushedImage{}, err
		}
	}
	var done pushedImage
	for _, l := range image.Layers {
		for _, f := range l.Files {
			done.bytes += int64(len(f.Body))
		}
	}
	p, err := fixture.BuildImage(ctx, addr, fmt.Sprintf("bench/big-%s:1", big.kind()), image)
	if err != nil {
		return pushedImage{}, err
	}
	done.ref = p.Ref
	pushed.images[big] = done
	image = fixture.Image{}
	debug.FreeOSMemory() // the page cache shall not have to fight for it
	return done, nil
}

// measurePull pulls the big images and removes each. What it says about disks is true of
// the file system below TMPDIR: one without a journal makes directories slowly for some
// minutes after large removals. Before each pull, what others have written is brought to
// the disk, so that nobody pays for it; after it, what the pull has written is.
func measurePull(ctx context.Context, o options, t *target, r *report) error {
	for _, big := range bigImages {
		if o.pullKinds != "" && !slices.Contains(strings.Split(o.pullKinds, ","), big.kind()) {
			continue
		}
		image, err := pushBig(ctx, t.registry, big, o.pullMiB)
		if err != nil {
			return err
		}
		if err := syncTemp(); err != nil {
			return err
		}
		idle, err := resetPeak(t.daemon)
		if err != nil {
			return err
		}
		busy, err := cpuSeconds()
		if err != nil {
			return err
		}
		own, from := cpuOfFamily(t.daemon), time.Now()
		if _, err := t.cri.Pull(ctx, image.ref); err != nil {
			return err
		}
		took := time.Since(from)
		after, err := cpuSeconds()
		if err != nil {
			return err
		}
		own = cpuOfFamily(t.daemon) - own
		peak, err := peakOf(t.daemon)
		if err != nil {
			return err
		}
		if err := syncTemp(); err != nil {
			return err
		}
		onDisk := time.Since(from)
		r.add(t.name, fmt.Sprintf("pull of %d MB in %s", image.bytes/1e6, big), milliseconds, took.Seconds()*1000)
		r.add(t.name, fmt.Sprintf("the same until it is on the disk, %s", big), milliseconds, onDisk.Seconds()*1000)
		r.add(t.name, "machine CPU of a pull in "+big.String(), milliseconds, (after-busy)*1000)
		r.add(t.name, "daemon's CPU of a pull in "+big.String(), milliseconds, own*1000)
		r.add(t.name, "daemon's growth in a pull in "+big.String(), kibibytes, float64(peak-idle))
		from = time.Now()
		if _, err := t.cri.RemoveImage(ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: image.ref}}); err != nil {
			return err
		}
		r.add(t.name, "RemoveImage of "+big.String(), milliseconds, time.Since(from).Seconds()*1000)
	}
	return nil
}

// syncTemp brings to the disk what was written to the file system of temporary files,
// where all runtimes and the registry have theirs.
func syncTemp() error {
	dir, err := os.Open(os.TempDir())
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Syncfs(int(dir.Fd()))
}

// resetPeak forgets the peak of a process's resident memory and returns what it has now,
// in KiB (proc(5), clear_refs).
func resetPeak(pid int) (kib int64, err error) {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		return 0, err
	}
	return peakOf(pid)
}

// peakOf is the greatest resident memory of a process, in KiB.
func peakOf(pid int) (kib int64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(raw), "VmHWM:")
	_, err = fmt.Sscanf(rest, "%d kB", &kib)
	return kib, err
}
