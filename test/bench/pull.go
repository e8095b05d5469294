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
	bigLayers = 8
	bigFiles  = 400      // per layer
	bigFile   = 48 << 10 // bytes; compresses about threefold, as programs do
)

// bigImage pushes an image of 8 layers, 3,200 files and 157 MB, once per compression.
var bigImage = struct {
	sync.Mutex // guards refs
	refs       map[fixture.Compression]string
}{refs: map[fixture.Compression]string{}}

func pushBig(ctx context.Context, addr string, c fixture.Compression) (string, error) {
	bigImage.Lock()
	defer bigImage.Unlock()
	if ref := bigImage.refs[c]; ref != "" {
		return ref, nil
	}
	image := fixture.Image{Config: v1.ImageConfig{Cmd: []string{"/none"}}}
	for l := range bigLayers {
		random := rand.New(rand.NewPCG(uint64(l), 1))
		layer := fixture.Layer{Compression: c}
		for f := range bigFiles {
			layer.Files = append(layer.Files, fixture.File{Name: fmt.Sprintf("opt/l%d/d%d/f%d", l, f%20, f), Body: words(random, bigFile)})
		}
		image.Layers = append(image.Layers, layer)
	}
	p, err := fixture.BuildImage(ctx, addr, "bench/big-"+string(c)+":1", image)
	if err != nil {
		return "", err
	}
	bigImage.refs[c] = p.Ref
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

// measurePull pulls the big image, removing it before and after.
func measurePull(ctx context.Context, _ options, t *target, r *report) error {
	for _, c := range []fixture.Compression{fixture.Gzip, fixture.Zstd} {
		ref, err := pushBig(ctx, t.registry, c)
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
		r.add(t.name, "pull of 157 MB in 8 layers, "+string(c), milliseconds, took.Seconds()*1000)
		r.add(t.name, "machine CPU of that pull, "+string(c), milliseconds, (after-busy)*1000)
		r.add(t.name, "daemon's CPU of that pull, "+string(c), milliseconds, (cpuOf(t.daemon)-own)*1000)
		from = time.Now()
		if _, err := t.cri.RemoveImage(ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: ref}}); err != nil {
			return err
		}
		r.add(t.name, "RemoveImage of that, "+string(c), milliseconds, time.Since(from).Seconds()*1000)
	}
	return nil
}
