package libct_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
)

// loadedFilter asks the kernel for the one filter that a running process has. The answer
// is the program as it was loaded, 8 bytes per instruction.
func (b *box) loadedFilter(pid int) []byte {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const seize, interrupt, getFilter = 0x4206, 0x4207, 0x420c
	ptrace := func(request, address uintptr, data unsafe.Pointer) int {
		n, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, request, uintptr(pid), address, uintptr(data), 0, 0)
		if errno != 0 {
			b.Fatalf("ptrace %#x: %v", request, errno)
		}
		return int(n)
	}
	ptrace(seize, 0, nil)
	ptrace(interrupt, 0, nil)
	if _, err := syscall.Wait4(pid, nil, syscall.WALL, nil); err != nil {
		b.Fatal(err)
	}
	defer ptrace(syscall.PTRACE_DETACH, 0, nil)
	program := make([]byte, 8*ptrace(getFilter, 0, nil))
	ptrace(getFilter, 0, unsafe.Pointer(&program[0]))
	return program
}

// filtered starts a container that sleeps, with the profile, and returns its filter.
func (b *box) filtered(profile *specs.LinuxSeccomp) []byte {
	b.Helper()
	b.spec.Linux.Seccomp = profile
	b.create()
	b.start()
	return b.loadedFilter(b.pid)
}

// profiles are the kinds of profiles that there are.
func profiles(t testing.TB) map[string]*specs.LinuxSeccomp {
	all := map[string]*specs.LinuxSeccomp{
		"ordinary": ordinaryProfile(t),
		"allows by default": {DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX32},
			Syscalls: []specs.LinuxSyscall{
				{Names: []string{"mkdir", "nosuchcall"}, Action: specs.ActErrno, ErrnoRet: ptr(uint(unix.EXDEV))},
				{Names: []string{"ptrace"}, Action: specs.ActKillProcess},
			}},
		"two conditions on one argument": {DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64},
			Syscalls: []specs.LinuxSyscall{{Names: []string{"socket"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{
				{Index: 0, Value: 40, Op: specs.OpEqualTo}, {Index: 0, Value: 38, Op: specs.OpEqualTo}}}}},
		"no rules": {DefaultAction: specs.ActAllow},
	}
	lists := ordinaryProfile(t)
	lists.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}
	lists.DefaultErrnoRet = ptr(uint(unix.ENOSYS))
	all["flags and ENOSYS"] = lists
	return all
}

func TestCachedFilterIsTheCompiledOne(t *testing.T) {
	for name, profile := range profiles(t) {
		t.Run(name, func(t *testing.T) {
			plain := newBox(t, "sleep", "1000").filtered(profile)
			cache := filepath.Join(t.TempDir(), "cache") // made when needed
			for _, state := range []string{"cold", "warm"} {
				b := newBox(t, "sleep", "1000")
				b.cache = cache
				if d := difference(t, b.filtered(profile), plain); d != "" {
					t.Errorf("with a %s cache the filter differs: %s", state, d)
				}
				pid, _, failed := b.tryExec(b.process("sleep", "1000"))
				if failed != nil {
					t.Fatal(failed)
				}
				if d := difference(t, b.loadedFilter(pid), plain); d != "" {
					t.Errorf("with a %s cache the filter of an exec session differs: %s", state, d)
				}
			}
			if files, err := os.ReadDir(cache); err != nil || len(files) != 1 {
				t.Errorf("the cache has %d files, %v", len(files), err)
			}
		})
	}
}

// Whatever stands in the cache, the container gets the filter that its profile says.
func TestBadCacheChangesNoFilter(t *testing.T) {
	profile := ordinaryProfile(t)
	other := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	plain := newBox(t, "sleep", "1000").filtered(profile)
	one := func(t *testing.T, cache string) string {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(cache, "*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("the cache has %q, %v", files, err)
		}
		return files[0]
	}
	for name, spoil := range map[string]func(t *testing.T, cache string){
		"cut off":       func(t *testing.T, cache string) { _ = os.Truncate(one(t, cache), 1000) },
		"empty":         func(t *testing.T, cache string) { _ = os.Truncate(one(t, cache), 0) },
		"a bit flipped": func(t *testing.T, cache string) { flip(t, one(t, cache)) },
		"of another profile": func(t *testing.T, cache string) {
			b := newBox(t, "sleep", "1000")
			b.cache = filepath.Join(t.TempDir(), "other")
			b.filtered(other)
			if err := os.Rename(one(t, b.cache), one(t, cache)); err != nil {
				t.Fatal(err)
			}
		},
		"open to others": func(_ *testing.T, cache string) { _ = os.Chmod(cache, 0o777) },
		"a file": func(_ *testing.T, cache string) {
			_ = os.RemoveAll(cache)
			_ = os.WriteFile(cache, nil, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cache := filepath.Join(t.TempDir(), "cache")
			first := newBox(t, "sleep", "1000")
			first.cache = cache
			first.filtered(profile)
			spoil(t, cache)
			b := newBox(t, "sleep", "1000")
			b.cache = cache
			if d := difference(t, b.filtered(profile), plain); d != "" {
				t.Errorf("the filter differs: %s", d)
			}
		})
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 2
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// An independent runtime with the original bindings and the same C library loads the same.
func TestFilterIsRuncs(t *testing.T) {
	path, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("the OCI runtime runc is not installed")
	}
	version, _ := exec.Command(path, "--version").Output()
	if !strings.Contains(string(version), "libseccomp: "+libraryVersion(t)) {
		t.Skipf("runc has another libseccomp than %s: %s", libraryVersion(t), version)
	}
	for name, profile := range profiles(t) {
		t.Run(name, func(t *testing.T) {
			profile.Flags = nil // not known to old versions, and no part of the program
			ours := newBox(t, "sleep", "1000").filtered(profile)
			b := newBox(t, "sleep", "1000")
			b.runtime.Path = path
			b.spec.Linux.Seccomp = profile
			b.create()
			b.startExternal()
			if d := difference(t, ours, b.loadedFilter(b.pid)); d != "" {
				t.Error(d)
			}
		})
	}
}

// libraryVersion is that of the libseccomp to link.
func libraryVersion(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("pkg-config", "--modversion", "libseccomp").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestSeccompStepIsShortWithAWarmCache(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	best := func() float64 {
		b := newBox(t, "true")
		b.cache = cache
		b.spec.Linux.Seccomp = ordinaryProfile(t)
		b.create()
		return seccompMillis(b.reply)
	}
	cold := best()
	warm := best()
	for range 4 {
		warm = min(warm, best())
	}
	t.Logf("compiled %.2f ms, cached %.2f ms", cold, warm)
	if warm > cold/3 {
		t.Errorf("the cache saves too little: %.2f ms of %.2f ms are left", warm, cold)
	}
}

func seccompMillis(r launch.Reply) float64 {
	for _, s := range r.Steps {
		if s.Name == "libct.seccomp" {
			return float64(s.End-s.Start) / 1e6
		}
	}
	return 0
}
