package proc

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestAProcessIsKnownByItsNumberAndItsStart(t *testing.T) {
	start, err := StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	self := pod.Process{PID: os.Getpid(), StartTime: start}
	if !Alive(self) {
		t.Error("this process is not alive")
	}
	if self.StartTime++; Alive(self) {
		t.Error("another process of this number is taken for this one")
	}
	if Alive(pod.Process{}) {
		t.Error("no process is alive")
	}
}

func TestEndWaitsUntilAProcessIsGoneAndTakesGoneForEnded(t *testing.T) {
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	pid := c.Process.Pid
	if err := End(t.Context(), pid, time.Minute); err != nil {
		t.Error(err)
	}
	if fields, err := stat(pid); err != nil || fields[0] != "Z" {
		t.Errorf("it is %v (%v) and not waiting to be reaped", fields, err)
	}
	c.Wait()
	if err := End(t.Context(), pid, time.Minute); err != nil {
		t.Errorf("one that is gone: %v", err)
	}
	if got := State(pid); got != "gone" {
		t.Errorf("one that is gone is %q", got)
	}
}

func TestZombiesAreChildrenThatNobodyWaitsFor(t *testing.T) {
	// The shell starts a child and becomes a program that waits for none.
	c := exec.Command("sh", "-c", "true & exec sleep 1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	for began := time.Now(); Zombies(c.Process.Pid) != 1; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("%d zombies, want one", Zombies(c.Process.Pid))
		}
	}
	if got := Zombies(-1); got != 0 {
		t.Errorf("nobody has %d", got)
	}
}

func TestMonitorsAreFoundByTheDirectoriesThatTheyServe(t *testing.T) {
	one, other := pod.NewID(), pod.NewID()
	found := Under([]Monitor{
		{PID: 1, Args: []string{"vitrine-monitor", "/run/v/containers/" + string(one)}},
		{PID: 2, Args: []string{"vitrine-pod", "/run/v/sandboxes/" + string(other)}},
		{PID: 3, Args: []string{"vitrine-monitor", "/run/w/containers/" + string(other)}},
		{PID: 4, Args: []string{"vitrine-monitor", "/run/v/containers/no-id"}},
		{PID: 5, Args: []string{"vitrine-monitor"}},
	}, "/run/v/containers")
	if len(found) != 1 || found[one] != 1 {
		t.Errorf("found %v", found)
	}
}

func TestFieldsOfAStatusAreFoundByTheirWholeName(t *testing.T) {
	status := []byte("Name:\tx CapEff: 9\nCapEffect:\t7\nCapEff:\t00000000000000a1\nSeccomp:\t2\n")
	for key, want := range map[string]string{"Name": "x CapEff: 9", "Seccomp": "2", "Sec": "", "None": ""} {
		if got, found := Field(status, key); got != want || found != (want != "") {
			t.Errorf("%s is %q, %v", key, got, found)
		}
	}
	if got := Mask(status, "CapEff"); got != 0xa1 {
		t.Errorf("the mask is %x", got)
	}
	if got := Mask(status, "Name"); got != 0 {
		t.Errorf("what is no mask is %x", got)
	}
}
