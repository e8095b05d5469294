package harness

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Slowdown is how many times longer work takes now than on an idle machine, at least 1:
// the wall-clock time of 20 ms of computing over its CPU time. A limit in time that is
// promised for an idle machine is multiplied by it, so that a neighbour's load is not
// taken for a fault of ours.
func Slowdown() float64 {
	const work = 20 * time.Millisecond
	runtime.LockOSThread() // the clock is the thread's
	defer runtime.UnlockOSThread()
	wall, cpu := time.Now(), cpuTime()
	for n := 0; cpuTime()-cpu < work; n++ {
		_ = n * n
	}
	return max(1, float64(time.Since(wall))/float64(cpuTime()-cpu))
}

func cpuTime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		panic(err) // a bug: the clock is in every Linux
	}
	return time.Duration(now.Nano())
}
