package ebpf_test

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"testing"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/ebpf"
)

var cost = flag.Bool("cost", false, "measure what a watched syscall costs")

// playSpin makes the cheapest syscall 100,000 times for each byte of input, and says
// how many nanoseconds of its own CPU time one took.
func playSpin() {
	runtime.LockOSThread()
	const calls = 100_000
	for in := make([]byte, 1); ; {
		if n, _ := os.Stdin.Read(in); n == 0 {
			return
		}
		var before, after unix.Timespec
		unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &before)
		for range calls {
			unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		}
		unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &after)
		fmt.Println(float64(after.Nano()-before.Nano()) / calls)
	}
}

// TestCostOfASyscall prints the cost of a syscall in a watched container, and beside it,
// over that when nobody watches. It fails only if it is many times what is promised.
func TestCostOfASyscall(t *testing.T) {
	if !*cost {
		t.Skip("a measurement: go test -v -run CostOfASyscall ./ebpf -args -cost")
	}
	p := open(t)
	type place struct {
		ask func() float64
		id  uint64
	}
	begin := func(name string) place {
		dir, id := newCgroup(t, "", name, 0)
		track(t, p, id)
		_, in, out := startInit(t, p, dir, id, "spin")
		return place{func() float64 {
			var ns float64
			if _, err := io.WriteString(in, "x"); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fscan(out, &ns); err != nil {
				t.Fatal(err)
			}
			return ns
		}, id}
	}
	inside, beside := begin("inside"), begin("beside")
	ways := []struct {
		name    string
		options *ebpf.WatchOptions
	}{
		{"nobody watches", nil},
		{"counts", &ebpf.WatchOptions{}},
		{"latency of one in 64", &ebpf.WatchOptions{Latency: true}},
		{"denials", &ebpf.WatchOptions{Denials: true}},
		{"flight recorder", &ebpf.WatchOptions{Flight: true}},
		{"an empty program", nil}, // the kernel's own share: any program costs that
	}
	empty, err := cebpf.NewProgram(&cebpf.ProgramSpec{Type: cebpf.Tracing, AttachType: cebpf.AttachTraceRawTp, AttachTo: "sys_exit", License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	costs := make([][2][]float64, len(ways))
	for range 9 {
		for i, way := range ways {
			var w *ebpf.Watch
			if way.options != nil {
				w = watch(t, p, inside.id, *way.options)
			} else if i > 0 {
				l, err := link.AttachTracing(link.TracingOptions{Program: empty})
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				costs[i][0], costs[i][1] = append(costs[i][0], inside.ask()), append(costs[i][1], beside.ask())
				l.Close()
				continue
			}
			costs[i][0] = append(costs[i][0], inside.ask())
			costs[i][1] = append(costs[i][1], beside.ask())
			if w != nil {
				w.Stop()
			}
		}
	}
	base := [2]float64{slices.Min(costs[0][0]), slices.Min(costs[0][1])}
	for i, way := range ways {
		in, out := slices.Min(costs[i][0]), slices.Min(costs[i][1])
		t.Logf("%-22s inside %6.1f ns (+%.1f)   beside %6.1f ns (+%.1f)", way.name, in, in-base[0], out, out-base[1])
		if in-base[0] > 2000 || out-base[1] > 1000 {
			t.Errorf("%s costs %.0f ns in the container, %.0f beside it", way.name, in-base[0], out-base[1])
		}
	}
}
