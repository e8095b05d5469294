package spec

import "testing"

// Once per container: a usual pod's specification, default seccomp profile included.
func BenchmarkContainer(b *testing.B) {
	in := input()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Container(in); err != nil {
			b.Fatal(err)
		}
	}
}
