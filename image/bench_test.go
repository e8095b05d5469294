package image

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// BenchmarkCrowd is what there is to ask of, and to do to, a store of 500 images of eight
// layers each.
func BenchmarkCrowd(b *testing.B) {
	const images, layers = 500, 8
	w := newWorld(b)
	push := func(name string) string {
		var img fixture.Image
		for l := range layers {
			content := fmt.Sprint(name, "-", l)
			img.Layers = append(img.Layers, fixture.Layer{Files: []fixture.File{{Name: content, Body: []byte(content)}}})
		}
		p, err := fixture.BuildImage(b.Context(), w.reg.Addr, "bench/crowd:"+name, img)
		if err != nil {
			b.Fatal(err)
		}
		return p.Ref
	}
	var last string
	for i := range images {
		last = push(fmt.Sprint("i", i))
		w.pull(last)
	}
	b.Run("List", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if all, err := w.List(b.Context()); err != nil || len(all) != images {
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
	b.Run("FsInfo", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if info, err := w.FsInfo(b.Context()); err != nil || info.Images.Inodes < images*layers {
				b.Fatal(info, err)
			}
		}
	})
	more := 0
	b.Run("PullAndRemove", func(b *testing.B) {
		var pulled, removed time.Duration
		for range b.N {
			more++
			ref := push(fmt.Sprint("more", more))
			before := cpuTime()
			w.pull(ref)
			pulled += cpuTime() - before
			before = cpuTime()
			if err := w.Remove(b.Context(), ref); err != nil {
				b.Fatal(err)
			}
			removed += cpuTime() - before
		}
		b.ReportMetric(pulled.Seconds()*1000/float64(b.N), "pull-cpu-ms/op")
		b.ReportMetric(removed.Seconds()*1000/float64(b.N), "remove-cpu-ms/op")
	})
}

// BenchmarkPull pulls this machine's programs and documents in eight layers and in one, by
// our path and by containers/image's alone.
func BenchmarkPull(b *testing.B) {
	const size = 150 << 20
	files, err := fixture.Programs(size)
	if err != nil {
		b.Fatal(err)
	}
	for _, compression := range []fixture.Compression{fixture.Gzip, fixture.Zstd} {
		for _, layers := range []int{8, 1} {
			var img fixture.Image
			for l := range layers {
				img.Layers = append(img.Layers, fixture.Layer{Files: files[l*len(files)/layers : (l+1)*len(files)/layers], Compression: compression})
			}
			for _, plain := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/layers=%d/plain=%v", compression, layers, plain), func(b *testing.B) {
					w := newWorld(b, func(c *Config) { c.PlainPull = plain })
					pushed, err := fixture.BuildImage(b.Context(), w.reg.Addr, "bench/pull:1", img)
					if err != nil {
						b.Fatal(err)
					}
					b.SetBytes(size)
					var cpu time.Duration
					for range b.N {
						before := cpuTime()
						w.pull(pushed.Ref)
						cpu += cpuTime() - before
						b.StopTimer()
						if err := w.Remove(b.Context(), pushed.Ref); err != nil {
							b.Fatal(err)
						}
						b.StartTimer()
					}
					b.ReportMetric(cpu.Seconds()*1000/float64(b.N), "cpu-ms/op")
				})
			}
		}
	}
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
