// Command vitrine-launch does one thing that needs libcontainer or an external OCI runtime, and
// ends: it creates a container, starts a process in one, or removes one. Package launch
// describes what it is given and what it answers:
//
//	vitrine-launch REQUEST
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/launch/libct"
	"github.com/vitrine-runtime/vitrine/launch/serve"
)

func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libct.Init() // does not return: this process becomes the user's
	}
	if len(os.Args) == 2 && os.Args[1] == "filter" {
		libct.LoadFilter() // does not return: Learn looks at this process
	}
}

func main() {
	begun := time.Now()
	debug.SetGCPercent(-1)
	libct.DefaultSignals()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: vitrine-launch REQUEST (a file; the answer goes to descriptor 3)")
		os.Exit(2)
	}
	born := libct.Birth()
	path, told, err := libct.Enlist(os.Args[1])
	if err == libct.ErrNoContainer {
		return
	}
	if !told.IsZero() {
		born, begun = told, time.Time{}
	}
	gated := false
	if err == nil {
		gated, err = libct.Await()
	}
	waited := time.Now()
	var request launch.Request
	if err == nil {
		request, err = serve.Request(path)
	}
	var reply launch.Reply
	if err != nil {
		reply = serve.Refusal(err)
	} else {
		if !gated {
			waited = time.Time{}
		}
		reply = libct.Run(request, libct.Times{Born: born, Main: begun, Waited: waited, Read: time.Now()})
	}
	if err := serve.Answer(reply); err != nil {
		fmt.Fprintln(os.Stderr, "vitrine-launch: answer:", err)
		os.Exit(1)
	}
	if reply.Error != nil {
		os.Exit(1)
	}
	if request.Runtime.Path == "" && (request.Op == launch.OpExec || request.Op == launch.OpCreate && request.Enterer != "" && reply.Way != launch.WayEnter) {
		_ = libct.Learn(request)
	}
}
