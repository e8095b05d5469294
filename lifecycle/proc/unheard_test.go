package proc

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestUnheardSaysWhatAProcessDoesWithASignal(t *testing.T) {
	for name, test := range map[string]struct{ script, want string }{
		"ignored": {`trap "" TERM; echo; read x`, pod.Ignored},
		"handled": {`trap : TERM; echo; read x`, ""},
		"PID 1":   {`trap - TERM; echo; read x`, pod.Unhandled},
	} {
		t.Run(name, func(t *testing.T) {
			c := exec.Command("/bin/sh", "-c", test.script)
			c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
			in, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			defer c.Wait()
			defer in.Close()
			if _, err := out.Read(make([]byte, 1)); err != nil { // the handler stands
				t.Fatal(err)
			}
			if got := Unheard(c.Process.Pid, "SIGTERM"); got != test.want {
				t.Errorf("SIGTERM is %q, want %q", got, test.want)
			}
		})
	}
	for _, pid := range []int{0, -1, os.Getpid()} { // the test binary is no PID 1
		if got := Unheard(pid, "SIGUSR2"); got != "" {
			t.Errorf("of pid %d SIGUSR2 is %q", pid, got)
		}
	}
	if got := Unheard(os.Getpid(), "SIGNONSENSE"); got != "" {
		t.Errorf("a signal that there is none of is %q", got)
	}
}
