package libct_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/launch"
)

// profileName is a profile that allows all but to make the directory /denied.
const profileName = "vitrine-test-confined"

// confined gives the container's process, and its sessions', the profile, which is loaded.
func (b *box) confined() {
	b.Helper()
	if on, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || on[0] != 'Y' {
		b.Skip("this kernel has no AppArmor (CONFIG_SECURITY_APPARMOR), or it is switched off")
	}
	const rules = "profile " + profileName + " flags=(attach_disconnected,mediate_deleted) {\n" +
		"capability,\nnetwork,\nfile,\numount,\nmount,\nsignal,\nptrace,\nunix,\ndeny /denied/ w,\n}\n"
	load := func(how string) {
		c := exec.Command("/usr/sbin/apparmor_parser", how, "--skip-cache", "--quiet")
		c.Stdin = strings.NewReader(rules)
		if out, err := c.CombinedOutput(); err != nil {
			b.Fatalf("apparmor_parser %s: %v: %s", how, err, out)
		}
	}
	load("--replace")
	b.Cleanup(func() { load("--remove") })
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
