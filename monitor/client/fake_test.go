package client_test

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/vitrine-runtime/vitrine/launch"
)

// fakeLaunch is a launcher that misbehaves as its request's bundle says: the test
// binary plays it under another name. It does not return.
func fakeLaunch() {
	raw, err := os.ReadFile(os.Args[1])
	if err != nil {
		os.Exit(9)
	}
	var r launch.Request
	if err := json.Unmarshal(raw, &r); err != nil {
		os.Exit(9)
	}
	reply := os.NewFile(launch.ReplyFD, "reply")
	behaviour, _ := os.ReadFile(r.Bundle + "/behaviour")
	switch string(behaviour) {
	case "die":
		fmt.Fprintln(os.Stderr, "first words\nrunc run failed: the disk is on fire")
		os.Exit(3)
	case "killed":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "garbage":
		reply.WriteString("hello\npid x\n")
	case "half":
		reply.WriteString("pid 1\nstep a 1 ")
	case "nothing":
		reply.WriteString("end\n")
	case "hang":
		time.Sleep(time.Hour)
	case "flood":
		for {
			if _, err := reply.WriteString("step flood 1 2\n"); err != nil {
				break
			}
		}
	}
	os.Exit(0)
}
