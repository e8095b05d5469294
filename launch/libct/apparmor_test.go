package libct_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/launch"
)

// profileName is a profile that allows all but to make the directory /denied.
const profileName = "vitrine-test-confined"

// loadProfile loads it, on kernels that have AppArmor.
func loadProfile(t testing.TB) {
	t.Helper()
	if on, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || on[0] != 'Y' {
		t.Skip("this kernel has no AppArmor (CONFIG_SECURITY_APPARMOR), or it is switched off")
	}
	const rules = "profile " + profileName + " flags=(attach_disconnected,mediate_deleted) {\n" +
		"capability,\nnetwork,\nfile,\numount,\nmount,\nsignal,\nptrace,\nunix,\ndeny /denied/ w,\n}\n"
	load := func(how string) {
		c := exec.Command("/usr/sbin/apparmor_parser", how, "--skip-cache", "--quiet")
		c.Stdin = strings.NewReader(rules)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("apparmor_parser %s: %v: %s", how, err, out)
		}
	}
	load("--replace")
	t.Cleanup(func() { load("--remove") })
}

// confined gives the container's process, and its sessions', the profile.
func (b *box) confined() {
	b.Helper()
	loadProfile(b.TB)
	b.spec.Process.ApparmorProfile = profileName
}

// confinement are lines of a portrait under the profile.
var confinement = []string{profileName + " (enforce)\n" + profileName + " (enforce)", "can't create directory '/denied': Permission denied"}

// Libcontainer says what is wrong with a profile, whoever tried before it.
func TestProfileThatIsNotLoadedIsRefusedByLibcontainer(t *testing.T) {
	var told []string
	bothWays(t, "create", func(t *testing.T, enter func(*box)) {
		b := newBox(t, "true")
		enter(b)
		b.spec.Process.ApparmorProfile = "vitrine-test-nosuch"
		failed := b.tryCreate()
		if failed == nil {
			t.Fatal("made under a profile that is not there")
		}
		b.pid = 0
		if failed.Kind != launch.KindInvalid || !strings.Contains(failed.Message, "apparmor") {
			t.Errorf("%s: %s", failed.Kind, failed.Message)
		}
		if b.enter != "" && !strings.Contains(b.reply.Way, "birth.apparmor") {
			t.Errorf("declined because of %q", b.reply.Way)
		}
		told = append(told, string(failed.Kind)+" "+failed.Step+" "+failed.Message)
	})
	if len(told) != 2 || told[0] != told[1] {
		t.Errorf("libcontainer alone and after vitrine-enter: %q", told)
	}
}

// What a container has made of its /proc is not what a session's profile is written to
// (CVE-2019-16884).
func TestSessionsProfileIsNotWrittenToTheContainersProc(t *testing.T) {
	const file = "/proc/thread-self/attr/apparmor/exec"
	b := newBox(t, "sh", "-c", "mount -t tmpfs none /proc && mkdir -p /proc/thread-self/attr/apparmor && mkdir /proc/self && echo -n >"+file+" && sleep 1000")
	b.confined()
	c := b.spec.Process.Capabilities
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted} {
		*set = append(slices.Clone(*set), "CAP_SYS_ADMIN")
	}
	b.create()
	b.start()
	inside := "/proc/" + itoa(b.pid) + "/root" + file
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(inside); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the container has not made its /proc")
		}
	}
	pid, _, failed := b.tryEnter(b.process("sleep", "1000"))
	if failed != nil {
		t.Fatal(failed)
	}
	if label, err := os.ReadFile("/proc/" + itoa(pid) + "/attr/current"); err != nil || string(label) != profileName+" (enforce)\n" {
		t.Errorf("it is under %q, %v", label, err)
	}
	if text, err := os.ReadFile(inside); err != nil || len(text) > 0 {
		t.Errorf("the container's file has %q, %v", text, err)
	}
}
