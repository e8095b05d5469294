package libct

/*
extern long long vitrine_birth;
extern int vitrine_given;
extern int vitrine_pipes;
extern int vitrine_spare;
*/
import "C"

import (
	"time"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/launch/serve"
)

// Birth is when this process was forked (as far as its CPU time tells).
func Birth() time.Time { return time.Unix(0, int64(C.vitrine_birth)) }

// Given reports whether descriptor fd, 3 to 6, was open when the process began. A
// later look could find a file of the Go runtime in its place.
func Given(fd int) bool { return C.vitrine_given&(1<<fd) != 0 }

// givenPipe is Given and a pipe.
func givenPipe(fd int) bool { return C.vitrine_pipes&(1<<fd) != 0 }

// Await returns when the request may be read, and whether that had to be waited for:
// see launch.GateFD.
func Await() (gated bool, err error) {
	if !givenPipe(launch.GateFD) {
		return false, nil
	}
	if C.vitrine_spare == 0 {
		warm()
	}
	return true, serve.PassGate()
}
