// Package stack makes the stack of the main goroutine as large as the loop of a monitor
// will ever need it, in one step and before anything else. Grown by doubling it would leave a
// stack of each size behind, and the Go runtime touches all of the 32 KiB from which it cuts
// the stacks of one size; those of 16 KiB are there already, for threads.
//
// It is a package because it must be initialized before package unicode, whose maps need
// more than the first stack: Go initializes what depends on nothing in the order of the
// import paths.
package stack

// nothing is 0. The compiler does not know.
var nothing int

func init() { grow(nothing) }

//go:noinline
func grow(n int) byte {
	if n == 0 {
		return 0
	}
	var room [9 << 10]byte // never touched: what counts is the size of the frame
	for i := range room {
		room[i] = byte(n)
	}
	return room[n]
}
