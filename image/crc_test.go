package image

import (
	"bytes"
	"hash/crc64"
	"math/rand/v2"
	"testing"
)

// The checksum is that of hash/crc64, however the content arrives.
func TestChecksumIsThatOfTheStandardLibrary(t *testing.T) {
	content := make([]byte, 5000)
	noise := rand.NewChaCha8([32]byte{3})
	noise.Read(content)
	random := rand.New(noise)
	for range 2000 {
		from := random.IntN(200)
		b := content[from : from+random.IntN(len(content)-200)]
		want := crc64.New(crc64.MakeTable(crc64.ISO))
		want.Write(b)
		var c checksum
		for rest := b; len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(1500))
			c.write(rest[:n])
			rest = rest[n:]
		}
		if !bytes.Equal(c.sum(), want.Sum(nil)) {
			t.Fatalf("%d bytes: %x, want %x", len(b), c.sum(), want.Sum(nil))
		}
	}
}

func BenchmarkChecksum(b *testing.B) {
	content := make([]byte, 64<<10)
	rand.NewChaCha8([32]byte{3}).Read(content)
	b.Run("own", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		var c checksum
		for range b.N {
			c.write(content)
		}
	})
	b.Run("standard library", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		h := crc64.New(crcTable)
		for range b.N {
			h.Write(content)
		}
	})
}
