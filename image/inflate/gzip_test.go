package inflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	kgzip "github.com/klauspost/compress/gzip"
)

// pieces hands b out in pieces of n bytes.
func pieces(b []byte, n int, last error) func() ([]byte, error) {
	return func() ([]byte, error) {
		if len(b) == 0 {
			return nil, last
		}
		p := b[:min(n, len(b))]
		b = b[len(p):]
		return p, nil
	}
}

func inflated(b []byte, piece int) ([]byte, error) {
	return io.ReadAll(NewReader(pieces(b, piece, io.EOF)))
}

func deflated(t testing.TB, plain []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// contents are bytes of several kinds: what compresses well and badly, near and far.
func contents(t testing.TB) map[string][]byte {
	t.Helper()
	noise := rand.NewChaCha8([32]byte{1})
	random := make([]byte, 700<<10)
	noise.Read(random)
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	text := []byte{}
	for i := range 40000 {
		text = fmt.Appendf(text, "%d: func Function%d(x int) { return %d }\n", i, i%77, i*i)
	}
	far := append(append(bytes.Clone(random[:32768]), random[:32768]...), random[:40000]...)
	short := []byte{}
	for d := 1; d < 20; d++ { // matches of every small distance, and lengths up to the longest
		for n := range 40 {
			for i := range 3 + n*7 {
				short = append(short, byte(i%d))
			}
			short = append(short, random[n])
		}
	}
	return map[string][]byte{
		"nothing": {}, "one byte": {7}, "zeros": make([]byte, 1<<20), "noise": random, "text": text,
		"program": program[:min(len(program), 1<<20)], "far": far, "short distances": short,
	}
}

func TestStreamsOfEveryLevelComeBack(t *testing.T) {
	for name, plain := range contents(t) {
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 1, 6, 9} {
			packed := deflated(t, plain, level)
			for _, piece := range []int{1 << 20, 4096, 17} {
				if got, err := inflated(packed, piece); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%s by level %d in pieces of %d: %d of %d bytes, %v", name, level, piece, len(got), len(plain), err)
				}
			}
		}
	}
}

func TestMembersFollowEachOther(t *testing.T) {
	var packed, plain []byte
	for _, level := range []int{6, 0, 1} {
		text := bytes.Repeat([]byte(fmt.Sprint("member ", level)), 30000)
		plain = append(plain, text...)
		packed = append(packed, deflated(t, text, level)...)
	}
	if got, err := inflated(packed, 100); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%d of %d bytes, %v", len(got), len(plain), err)
	}
}

func TestHeadsWithAllTheirParts(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name, w.Comment, w.Extra = "name", "comment", []byte("extra")
	w.Write([]byte("content"))
	w.Close()
	if got, err := inflated(b.Bytes(), 3); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestStreamsCutOffAreToldFromWholeOnes(t *testing.T) {
	plain := contents(t)["text"][:3000]
	for _, level := range []int{0, 1, 9} {
		packed := deflated(t, plain, level)
		for n := 1; n < len(packed); n++ {
			got, err := inflated(packed[:n], 64)
			if err != io.ErrUnexpectedEOF {
				t.Fatalf("%d of %d bytes by level %d: %v", n, len(packed), level, err)
			}
			if !bytes.HasPrefix(plain, got) {
				t.Fatalf("%d of %d bytes by level %d: something else came out", n, len(packed), level)
			}
		}
	}
}

func TestErrorOfTheSourceComesThrough(t *testing.T) {
	broken := errors.New("the connection broke")
	packed := deflated(t, contents(t)["text"], 6)
	for _, n := range []int{0, 5, 1000, len(packed) - 3} {
		if _, err := io.ReadAll(NewReader(pieces(packed[:n], 400, broken))); err != broken {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestDamageIsFound(t *testing.T) {
	plain := contents(t)["text"][:4000]
	packed := deflated(t, plain, 6)
	for i := range len(packed) * 8 {
		if i/8 >= 3 && i/8 < 10 {
			continue // flags, time and system: mostly without meaning here
		}
		bad := bytes.Clone(packed)
		bad[i/8] ^= 1 << (i % 8)
		// Bits between the last block and the checksum mean nothing.
		if got, err := inflated(bad, 1<<20); err == nil && !bytes.Equal(got, plain) {
			t.Fatalf("bit %d was flipped, and %d other bytes came out", i, len(got))
		}
	}
}

// FuzzAgreesWithTheStandardLibrary: both refuse a stream, or both make the same of it.
func FuzzAgreesWithTheStandardLibrary(f *testing.F) {
	for _, plain := range contents(f) {
		plain = plain[:min(len(plain), 2000)]
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 9} {
			f.Add(deflated(f, plain, level), uint8(200))
		}
	}
	f.Fuzz(func(t *testing.T, packed []byte, piece uint8) {
		want, wantErr := func() ([]byte, error) {
			z, err := gzip.NewReader(bytes.NewReader(packed))
			if err != nil {
				return nil, err
			}
			return io.ReadAll(io.LimitReader(z, 8<<20))
		}()
		if len(want) == 8<<20 {
			return
		}
		got, err := inflated(packed, int(piece)+1)
		if len(packed) == 0 {
			return // the standard library's constructor refuses what has no member
		}
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v; compress/gzip: %d bytes, %v", len(got), err, len(want), wantErr)
		}
	})
}

// BenchmarkInflate compares with what else there is.
func BenchmarkInflate(b *testing.B) {
	for _, name := range []string{"program", "text"} {
		plain := contents(b)[name]
		packed := deflated(b, plain, 6)
		for which, open := range map[string]func() io.Reader{
			"own": func() io.Reader { return NewReader(pieces(packed, 256<<10, io.EOF)) },
			"klauspost": func() io.Reader {
				z, _ := kgzip.NewReader(bytes.NewReader(packed))
				return z
			},
			"standard library": func() io.Reader {
				z, _ := gzip.NewReader(bytes.NewReader(packed))
				return z
			},
		} {
			b.Run(name+"/"+which, func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				buffer := make([]byte, 256<<10)
				for range b.N {
					if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{open()}, buffer); err != nil || n != int64(len(plain)) {
						b.Fatal(n, err)
					}
				}
			})
		}
	}
}
