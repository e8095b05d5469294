package why

import (
	"fmt"
	"syscall"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// refusals name the cause that a denial of a layer speaks for. What a program's last
// words say of the same is the same cause.
var refusals = map[string]string{
	"seccomp": "seccomp.denied", "capability": "capability.denied", "selinux": "selinux.denied",
	"read-only": "process.readonly", "permission": "process.denied", "device": "device.denied", "apparmor": "apparmor.denied",
}

// fileAccess are the capabilities that the kernel asks for when a file's mode does not
// allow what is wanted: it is the mode, or the user, that is wrong.
var fileAccess = map[string]bool{"DAC_OVERRIDE": true, "DAC_READ_SEARCH": true, "FOWNER": true}

// soon is how long before its end a container's last denial may explain it.
const soon = 5 * time.Second

// denials reads the ledger of what containers were refused. Programs ask for much that
// they can do without, and the kernel asks for capabilities that make no difference: of
// one that goes on, the first thing that is known to have failed is a possibility, and
// the rest is told beside it. One shortly before a container gave up is likely why.
func denials(e *Evidence) []Fact {
	var facts []Fact
	for _, c := range e.Containers {
		last := -1
		for i, d := range c.Denials {
			if c.gaveUp() && c.Finished.Sub(d.Last) <= soon && (last < 0 || !d.Last.Before(c.Denials[last].Last)) {
				last = i
			}
		}
		for i, d := range c.Denials {
			f := Fact{Time: d.First, Source: "denial", Container: c.Name, Cause: refusals[d.Layer],
				Text: fmt.Sprintf("%s was refused: %s", c.Name, d.What)}
			if f.Cause == "" || fileAccess[d.Capability] {
				f.Cause = "process.denied"
			}
			if c.Exit == nil && i == 0 && (d.Error != "" || d.Signal != "") {
				f.Weight = 0.16
			}
			if i == last {
				f.Time, f.Weight = d.Last, c.wordsOfRefusal(d)
				f.sentence = fmt.Sprintf("%s, %s after this was refused: %s", c.ending(), waited(c.Finished.Sub(d.Last)), d.What)
			}
			if d.Remedy != "" && !fileAccess[d.Capability] {
				f.next = "if it needs that, allow it: " + d.Remedy
			}
			facts = append(facts, f)
		}
		if more := c.AllDenials - len(c.Denials); more > 0 && len(c.Denials) > 0 {
			facts = append(facts, Fact{Time: c.Finished, Source: "denial", Container: c.Name, Cause: facts[len(facts)-1].Cause,
				Text: fmt.Sprintf("%s was refused %d other things (vitrine denials)", c.Name, more)})
		}
	}
	return facts
}

// wordsOfRefusal is how strongly a denial explains the end, by what the program said
// last: that something was not permitted, nothing that is known, or something else.
func (c Container) wordsOfRefusal(d pod.Denial) float64 {
	words, _ := c.lastWords()
	quiet := words.Cause == "" || words.Cause == "exit.code"
	if fileAccess[d.Capability] || quiet && d.Error == "" && d.Signal == "" { // asked for; perhaps it went on without
		return 0.4
	}
	switch words.Cause {
	case "process.denied", "process.readonly", "process.unsupported":
		return 0.72
	case "", "exit.code":
		return 0.6
	}
	return 0.3
}

// gaveUp: it ended with a failure that was its own doing, or that of a call it made.
func (c Container) gaveUp() bool {
	x := c.Exit
	if x == nil || x.Code == 0 || c.Stopped || x.Reason == "OOMKilled" || x.Reason == "StartError" || x.Reason == "MonitorLost" {
		return false
	}
	switch syscall.Signal(x.Signal) {
	case 0, syscall.SIGSYS, syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGTRAP, syscall.SIGILL:
		return true
	}
	return x.Sender != nil && x.Sender.From == pod.FromSelf
}

// ending is how it ended, in few words.
func (c Container) ending() string {
	if c.Exit.Signal != 0 {
		return fmt.Sprintf("%s was ended by %s", c.Name, signalName(syscall.Signal(c.Exit.Signal)))
	}
	return fmt.Sprintf("%s exited with %d", c.Name, c.Exit.Code)
}

// waited is a short time without digits that nobody asks for.
func waited(d time.Duration) string {
	if d < time.Second {
		return "less than a second"
	}
	return d.Round(time.Second).String()
}
