package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/vitrine-runtime/vitrine/test/fixture"
)

// What images hold when nothing is asked for: files of one size that compress about
// threefold, as programs do.
const (
	wordFiles = 3200
	wordFile  = 48 << 10 // bytes
)

// wordLayers are layers of 3,200 files and 157 MB together.
func wordLayers(compression fixture.Compression, layers int) []fixture.Layer {
	var list []fixture.Layer
	for l := range layers {
		random := rand.New(rand.NewPCG(uint64(l), 1))
		layer := fixture.Layer{Compression: compression}
		for f := range wordFiles / layers {
			layer.Files = append(layer.Files, fixture.File{Name: fmt.Sprintf("opt/l%d/d%d/f%d", l, f%20, f), Body: words(random, wordFile)})
		}
		list = append(list, layer)
	}
	return list
}

// words is content with the redundancy of text and the variety of random numbers.
func words(random *rand.Rand, n int) []byte {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%x function_%d return %d\n", random.Uint64(), random.IntN(50), random.IntN(1000))
	}
	return []byte(b.String()[:n])
}

// programLayers are layers of mib MiB together made of this machine's own programs,
// libraries and documents: as many small files, and as compressible, as images are.
// Gzip is by the level that builders of images use.
func programLayers(compression fixture.Compression, layers int, mib int64) ([]fixture.Layer, error) {
	files, err := fixture.Programs(mib << 20)
	if err != nil {
		return nil, err
	}
	var total int64
	for _, f := range files {
		total += int64(len(f.Body))
	}
	list := make([]fixture.Layer, layers)
	var before int64
	for _, f := range files {
		l := &list[before*int64(layers)/(total+1)]
		l.Files = append(l.Files, f)
		before += int64(len(f.Body))
	}
	for i := range list {
		list[i].Compression = compression
		if compression == fixture.Gzip {
			list[i].Pack = packGzip
		}
	}
	return list, nil
}

func packGzip(archive []byte) (fixture.Blob, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(archive); err != nil {
		return fixture.Blob{}, err
	}
	if err := w.Close(); err != nil {
		return fixture.Blob{}, err
	}
	return fixture.Blob{Descriptor: v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: digest.FromBytes(b.Bytes()), Size: int64(b.Len())}, Content: b.Bytes()}, nil
}
