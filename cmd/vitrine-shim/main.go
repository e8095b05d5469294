// Command vitrine-shim is vitrine-launch for handlers that are containerd shims. Package
// launch describes what it is given and what it answers, package launch/shim what it
// does. Its second form is the process that stays with a container or exec session:
//
//	vitrine-shim REQUEST
//	vitrine-shim keep REQUEST BORN MAIN WAITED   (its launcher's times, in nanoseconds since 1970)
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/launch/serve"
	"github.com/vitrine-runtime/vitrine/launch/shim"
)

func main() {
	main := time.Now()
	switch {
	case len(os.Args) == 2:
		os.Exit(run(os.Args[1], main))
	case len(os.Args) == 6 && os.Args[1] == "keep":
		os.Exit(keep(os.Args[2], shim.ParseTimes(os.Args[3:])))
	}
	fmt.Fprintln(os.Stderr, "usage: vitrine-shim REQUEST (a file; the answer goes to descriptor 3)")
	os.Exit(2)
}

// run answers a request, or has a keeper do so.
func run(path string, main time.Time) int {
	waited, err := shim.Await()
	var request launch.Request
	if err == nil {
		request, err = serve.Request(path)
	}
	reply := launch.Reply{}
	if err != nil {
		reply = serve.Refusal(err)
	} else {
		var kept bool
		if reply, kept = shim.Run(request, path, shim.Times{Born: begun(main), Main: main, Waited: waited}); kept {
			return 0
		}
	}
	if err := serve.Answer(reply); err != nil {
		fmt.Fprintln(os.Stderr, "vitrine-shim: answer:", err)
		return 1
	}
	if reply.Error != nil {
		return 1
	}
	return 0
}

// keep is the keeper. What it inherits beside its streams ends with the answer.
func keep(path string, at shim.Times) int {
	debug.SetGCPercent(100) // the launcher's environment switches it off
	unix.CloseOnExec(launch.ReplyFD)
	unix.CloseOnExec(shim.DoneFD)
	request, err := serve.Request(path)
	if err != nil {
		_ = serve.Answer(serve.Refusal(err))
		return 1
	}
	return shim.Keep(request, at, func(reply launch.Reply) error {
		err := serve.Answer(reply)
		_, _ = unix.Close(launch.ReplyFD), unix.Close(shim.DoneFD)
		return err
	})
}

// begun is when this process was forked, as far as its CPU time tells.
func begun(main time.Time) time.Time {
	var used unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used) != nil {
		return main
	}
	return main.Add(-time.Duration(used.Nano()))
}
