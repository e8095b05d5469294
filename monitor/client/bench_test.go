package client_test

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkLog is a container that writes lines of 100 bytes as fast as it can; one
// operation is 64 MiB, from the start to the exit record.
func BenchmarkLog(b *testing.B) {
	const size = 64 << 20
	b.SetBytes(size)
	for range b.N {
		c := newBox(b, "sh", "-c", fmt.Sprintf("yes %s | head -c %d", strings.Repeat("x", 99), size)).create()
		c.must(c.m.StartContainer(c.ctx))
		if e := c.exit(); e.LogBytes != size || e.LogDropped != 0 {
			b.Fatalf("exit %+v", e)
		}
	}
}

// BenchmarkStart is a container's create, start and exit.
func BenchmarkStart(b *testing.B) {
	for range b.N {
		c := newBox(b, "true").start()
		c.exit()
		c.must(c.m.Shutdown(c.ctx))
	}
}

// BenchmarkExec is one exec of true, from the request to its exit code.
func BenchmarkExec(b *testing.B) {
	c := newBox(b, "sleep", "1000").start()
	for b.Loop() {
		c.exec("true")
	}
}
