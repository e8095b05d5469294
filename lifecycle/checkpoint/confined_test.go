package checkpoint

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestThreadThatIsLessConfinedThanAskedForIsRefused(t *testing.T) {
	spec := &specs.Spec{
		Process: &specs.Process{NoNewPrivileges: true, Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN", "CAP_KILL"}}},
		Linux:   &specs.Linux{Seccomp: &specs.LinuxSeccomp{}},
	}
	good := "Name:\tsh\nState:\tT (stopped)\nCapInh:\t0\nCapPrm:\t21\nCapEff:\t21\nCapBnd:\t21\nCapAmb:\t0\nNoNewPrivs:\t1\nSeccomp:\t2\n"
	if err := verifyStatus(spec, []byte(good)); err != nil {
		t.Errorf("as asked for: %v", err)
	}
	for line, instead := range map[string]string{
		"CapEff:\t21": "CapEff:\t200021", "CapBnd:\t21": "CapBnd:\t1ffffffffff", "CapAmb:\t0": "CapAmb:\t2000",
		"Seccomp:\t2": "Seccomp:\t0", "NoNewPrivs:\t1": "NoNewPrivs:\t0", "State:\tT (stopped)": "State:\tS (sleeping)",
	} {
		if verifyStatus(spec, []byte(strings.Replace(good, line, instead, 1))) == nil {
			t.Errorf("%s in the place of %s was accepted", instead, line)
		}
	}
}
