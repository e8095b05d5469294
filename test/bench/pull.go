package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/fixture"
)

const (
	bigFiles = 3200
	bigFile  = 48 << 10 // bytes; compresses about threefold, as programs do
)

// bigImages are images of 3,200 files and 157 MB.
var bigImages = []bigImage{
	{fixture.Gzip, 8}, {fixture.Zstd, 8}, {fixture.Gzip, 1}, {fixture.Zstd, 1},
}

type bigImage struct {
	compression fixture.Compression
	layers      int
}

func (b bigImage) String() string {
	if b.layers == 1 {
		return "one layer, " + string(b.compression)
	}
	return fmt.Sprintf("%d layers, %s", b.layers, b.compression)
}

// pushed are the images that the registry has.
var pushed = struct {
	sync.Mutex // guards refs
	refs       map[bigImage]string
}{refs: map[bigImage]string{}}

func pushBig(ctx context.Context, addr string, big bigImage) (string, error) {
	pushed.Lock()
	defer pushed.Unlock()
	if ref := pushed.refs[big]; ref != "" {
		return ref, nil
	}
	image := fixture.Image{Config: v1.ImageConfig{Cmd: []string{"/none"}}}
	for l := range big.layers {
		random := rand.New(rand.NewPCG(uint64(l), 1))
		layer := fixture.Layer{Compression: big.compression}
		for f := range bigFiles / big.layers {
			layer.Files = append(layer.Files, fixture.File{Name: fmt.Sprintf("opt/l%d/d%d/f%d", l, f%20, f), Body: words(random, bigFile)})
		}
		image.Layers = append(image.Layers, layer)
	}
	p, err := fixture.BuildImage(ctx, addr, fmt.Sprintf("bench/big-%s-%d:1", big.compression, big.layers), image)
	if err != nil {
		return "", err
	}
	pushed.refs[big] = p.Ref
	return p.Ref, nil
}

// words is content with the redundancy of text and the variety of random numbers.
func words(random *rand.Rand, n int) []byte {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%x function_%d return %d\n", random.Uint64(), random.IntN(50), random.IntN(1000))
	}
	return []byte(b.String()[:n])
}

// measurePull pulls the big images and removes each. What it says about disks is true of
// the file system below TMPDIR: one without a journal makes directories slowly for some
// minutes after large removals.
func measurePull(ctx context.Context, _ options, t *target, r *report) error {
	for _, big := range bigImages {
		ref, err := pushBig(ctx, t.registry, big)
		if err != nil {
			return err
		}
		busy, err := cpuSeconds()
		if err != nil {
			return err
		}
		own, from := cpuOf(t.daemon), time.Now()
		if _, err := t.cri.Pull(ctx, ref); err != nil {
			return err
		}
		took := time.Since(from)
		after, err := cpuSeconds()
		if err != nil {
			return err
		}
		r.add(t.name, "pull of 157 MB in "+big.String(), milliseconds, took.Seconds()*1000)
		r.add(t.name, "machine CPU of a pull in "+big.String(), milliseconds, (after-busy)*1000)
		r.add(t.name, "daemon's CPU of a pull in "+big.String(), milliseconds, (cpuOf(t.daemon)-own)*1000)
		from = time.Now()
		if _, err := t.cri.RemoveImage(ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: ref}}); err != nil {
			return err
		}
		r.add(t.name, "RemoveImage of "+big.String(), milliseconds, time.Since(from).Seconds()*1000)
	}
	return nil
}
