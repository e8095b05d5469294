package libct_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/launch"
)

// A launcher that is killed at any moment of a create leaves nothing that OpDelete does not
// remove: the clean-up of each box takes the census.
func TestKilledCreateIsRemovedCompletely(t *testing.T) {
	for i := range 80 {
		b := newBox(t, "sleep", "1000")
		enterer := ""
		if i%2 == 0 {
			b.spec.Linux.Seccomp = ordinaryProfile(t)
		} else {
			enterer = b.enterer()
		}
		b.writeSpec()
		raw, err := json.Marshal(launch.Request{Op: launch.OpCreate, ID: b.id, Root: b.root, Bundle: b.bundle, Enterer: enterer})
		b.must(err)
		path := filepath.Join(b.bundle, "launch.json")
		b.must(os.WriteFile(path, raw, 0o600))
		reply, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
		b.must(err)
		pid, err := syscall.ForkExec(launcher, []string{"vitrine-launch", path}, &syscall.ProcAttr{
			Env: launch.Environ(), Files: []uintptr{reply.Fd(), reply.Fd(), reply.Fd(), reply.Fd()},
		})
		b.must(err)
		time.Sleep(time.Duration(rand.IntN(50_000)) * time.Microsecond)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		b.wait(pid)
		reply.Close()
		b.clean()
		if t.Failed() {
			return
		}
	}
}
