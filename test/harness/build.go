package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// BinEnv names a directory of binaries that are already built; the build is then
// skipped. The guest rig sets it, because there is no compiler in the guest.
const BinEnv = "VITRINE_BIN"

// SlowEnv holds a factor by which every time limit of the tests is multiplied, for
// emulated machines.
const SlowEnv = "VITRINE_TEST_SLOW"

// Bin returns the directory with vitrined, vitrine-monitor, vitrine-launch, vitrine-shim, vitrine
// and cni/, building them first, once per process. Processes that build at the same
// time take turns; make finds nothing to do for the second one.
var Bin = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(BinEnv); dir != "" {
		return filepath.Abs(dir)
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	// Not go.mod: the go command takes a lock on that itself, and make would wait for us.
	lock, err := os.OpenFile(filepath.Join(root, "Makefile"), os.O_RDONLY, 0)
	if err != nil {
		return "", fmt.Errorf("lock the build: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock the build: %w", err)
	}
	if out, err := exec.Command("make", "-C", root, "--no-print-directory", "build").CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return filepath.Join(root, "bin"), nil
})

// Root returns the directory of go.mod, searched upwards from the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = parent
	}
}

// DisposableEnv says that the machine is the tests' own: they may run it out of memory
// and give it swap.
const DisposableEnv = "VITRINE_TEST_DISPOSABLE"

// Disposable says whether the machine is the tests' own.
func Disposable() bool { return os.Getenv(DisposableEnv) != "" }

// Emulated says that time means nothing here, so nothing is judged by it, and that work
// is slow, so the amount of it may be divided by the factor.
func Emulated() (factor int, yes bool) {
	n, err := strconv.Atoi(os.Getenv(SlowEnv))
	return max(n, 1), err == nil && n > 1
}

// Scale multiplies a time limit by the factor of SlowEnv, 1 without one.
func Scale(d time.Duration) time.Duration {
	factor, _ := Emulated()
	return d * time.Duration(factor)
}
