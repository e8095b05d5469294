package libct_test

import (
	"encoding/json"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/launch"
)

// ordinaryProfile is a profile as long as a runtime's default: 381 names, three architectures.
func ordinaryProfile(t testing.TB) *specs.LinuxSeccomp {
	t.Helper()
	raw, err := os.ReadFile("testdata/seccomp.json")
	if err != nil {
		t.Fatal(err)
	}
	profile := new(specs.LinuxSeccomp)
	if err := json.Unmarshal(raw, profile); err != nil {
		t.Fatal(err)
	}
	return profile
}

// BenchmarkCreate times whole creates as the launcher's caller sees them, and their most
// expensive steps, as medians in ms.
func BenchmarkCreate(b *testing.B) {
	for _, c := range []struct {
		name  string
		spoil func(*box)
	}{
		{"no seccomp", func(*box) {}},
		{"seccomp", func(x *box) { x.spec.Linux.Seccomp = ordinaryProfile(x) }},
		{"seccomp with cache", func(x *box) {
			x.spec.Linux.Seccomp = ordinaryProfile(x)
			x.cache = x.TempDir()
		}},
		{"seccomp, without libcontainer", func(x *box) {
			x.spec.Linux.Seccomp = ordinaryProfile(x)
			x.cache, x.filters, x.enter = x.TempDir(), x.TempDir(), x.enterer()
			x.create()
			x.again()
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			x := newBox(b, "true")
			c.spoil(x)
			times := map[string][]float64{}
			for b.Loop() {
				x.create()
				steps := x.reply.Steps
				for _, s := range steps {
					times[s.Name] = append(times[s.Name], float64(s.End-s.Start)/1e6)
				}
				times["all"] = append(times["all"], float64(steps[len(steps)-1].End-steps[0].Start)/1e6)
				b.StopTimer()
				x.exec.Close()
				x.run(launch.Request{Op: launch.OpDelete}, nil, nil, nil)
				x.wait(x.pid)
				x.pid, x.exec = 0, nil
				b.StartTimer()
			}
			for name, all := range times {
				slices.Sort(all)
				if m := all[len(all)/2]; m > 0.25 {
					b.ReportMetric(m, name+"-ms")
				}
			}
		})
	}
}

// BenchmarkExec times exec sessions until the kernel has accepted their execve.
func BenchmarkExec(b *testing.B) {
	x := newBox(b, "sleep", "1000")
	x.spec.Linux.Seccomp = ordinaryProfile(x)
	x.cache = x.TempDir()
	x.create() // compiles the filter for the next one
	x.exec.Close()
	x.must(syscall.Kill(x.pid, syscall.SIGKILL))
	x.wait(x.pid)
	x.remove()
	x.create()
	x.start()
	raw, err := json.Marshal(x.process("true"))
	x.must(err)
	var all []float64
	for b.Loop() {
		reply := x.run(launch.Request{Op: launch.OpExec, Process: raw}, nil, nil, nil)
		if reply.Error != nil {
			b.Fatal(reply.Error)
		}
		all = append(all, float64(reply.Steps[len(reply.Steps)-1].End-reply.Steps[0].Start)/1e6)
		x.wait(reply.PID)
	}
	slices.Sort(all)
	b.ReportMetric(all[len(all)/2], "all-ms")
}
