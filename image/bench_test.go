package image

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/vitrine-runtime/vitrine/test/fixture"
)

// BenchmarkRootfs is what one container costs here, and what the same costs through
// the storage library's own containers, which this room goes around.
func BenchmarkRootfs(b *testing.B) {
	w := newWorld(b)
	img := w.pull(w.push("bench/rootfs:1", everything(fixture.Gzip, false)).Ref)
	b.Run("own", func(b *testing.B) {
		for i := range b.N {
			id := fmt.Sprint("c", i)
			if _, err := w.CreateRootfs(b.Context(), RootfsRequest{ID: id, ImageID: img.ID}); err != nil {
				b.Fatal(err)
			}
			if err := w.UnmountRootfs(b.Context(), id); err != nil {
				b.Fatal(err)
			}
			if err := w.RemoveRootfs(b.Context(), id); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("mount", func(b *testing.B) {
		if _, err := w.CreateRootfs(b.Context(), RootfsRequest{ID: "m", ImageID: img.ID}); err != nil {
			b.Fatal(err)
		}
		for range b.N {
			if err := w.UnmountRootfs(b.Context(), "m"); err != nil {
				b.Fatal(err)
			}
			if _, err := w.MountRootfs(b.Context(), "m"); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.RemoveRootfs(b.Context(), "m"); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("library", func(b *testing.B) {
		for i := range b.N {
			id := fmt.Sprint("l", i)
			if _, err := w.storage.CreateContainer(id, nil, img.ID, "", "", nil); err != nil {
				b.Fatal(err)
			}
			if _, err := w.storage.Mount(id, ""); err != nil {
				b.Fatal(err)
			}
			if _, err := w.storage.Unmount(id, true); err != nil {
				b.Fatal(err)
			}
			if err := w.storage.DeleteContainer(id); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkList is List and Status with 200 images.
func BenchmarkList(b *testing.B) {
	w := newWorld(b)
	var last string
	for i := range 200 {
		last = w.push(fmt.Sprintf("bench/list:%d", i), fixture.Image{Layers: small(fmt.Sprint(i)).Layers[:1]}).Ref
		w.pull(last)
	}
	b.Run("List", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if all, err := w.List(b.Context()); err != nil || len(all) != 200 {
				b.Fatal(len(all), err)
			}
		}
	})
	b.Run("Status", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := w.Status(b.Context(), last); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPull pulls eight layers of files of mixed size, half of it compressible,
// by both paths.
func BenchmarkPull(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, compression := range []fixture.Compression{fixture.Gzip, fixture.Zstd} {
		var img fixture.Image
		total := int64(0)
		for l := range 8 {
			var files []fixture.File
			for f := range 1500 {
				body := make([]byte, rng.IntN(20<<10))
				for i := 0; i < len(body)/2; i++ {
					body[i] = byte(rng.IntN(256))
				}
				total += int64(len(body))
				files = append(files, fixture.File{Name: fmt.Sprintf("usr/lib/%d/%d/f%d", l, f/50, f), Body: body, Mode: 0o644})
			}
			img.Layers = append(img.Layers, fixture.Layer{Files: files, Compression: compression})
		}
		for _, plain := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/plain=%v", compression, plain), func(b *testing.B) {
				w := newWorld(b, func(c *Config) { c.PlainPull = plain })
				ref := w.push("bench/pull:1", img).Ref
				b.SetBytes(total)
				for range b.N {
					w.pull(ref)
					b.StopTimer()
					if err := w.Remove(b.Context(), ref); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
		}
	}
}
