package image

import (
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/test/fixture"
)

// A layer flows through; it is never held. What a pull takes does not grow with it.
func TestLargeLayerTakesLittleMemory(t *testing.T) {
	const size, most = 96 << 20, 48 << 20
	for _, compression := range []fixture.Compression{fixture.Gzip, fixture.Zstd} {
		t.Run(string(compression), func(t *testing.T) {
			w := newWorld(t)
			ref := func() string { // the fixture's own copies are garbage when it returns
				body := make([]byte, size)
				rand.NewChaCha8([32]byte{2}).Read(body)
				return w.push("large/layer:1", fixture.Image{Layers: []fixture.Layer{{Compression: compression, Files: []fixture.File{{Name: "large", Body: body}}}}}).Ref
			}()
			runtime.GC()
			before := heapObjects()
			peak, stop := make(chan uint64), make(chan struct{})
			go func() {
				var highest uint64
				for tick := time.NewTicker(time.Millisecond); ; {
					select {
					case <-tick.C:
						highest = max(highest, heapObjects())
					case <-stop:
						tick.Stop()
						peak <- highest
						return
					}
				}
			}()
			w.pull(ref)
			close(stop)
			if grown := int64(<-peak) - int64(before); grown > most {
				t.Errorf("a layer of %d MiB took %d MiB", size>>20, grown>>20)
			} else {
				t.Logf("a layer of %d MiB took %d MiB", size>>20, grown>>20)
			}
		})
	}
}

func heapObjects() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
