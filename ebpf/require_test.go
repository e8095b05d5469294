package ebpf

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
)

// Require skips a test where nobody could load the programs: the kernel describes no
// types, or refuses programs for tracepoints to this process.
func Require(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		t.Skip("needs a kernel that describes its types (CONFIG_DEBUG_INFO_BTF): ", err)
	}
	if err := features.HaveProgramType(cebpf.TracePoint); err != nil {
		t.Skip("needs a kernel that takes programs for tracepoints (CONFIG_BPF_EVENTS, CAP_BPF): ", err)
	}
}

// load has the programs loaded until the end of the test.
func load(t testing.TB) *Programs {
	t.Helper()
	Require(t)
	dir := filepath.Join(t.TempDir(), "bpf")
	p, err := Open(Config{PinDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.Close(), Wipe(dir)); err != nil {
			t.Error(err)
		}
	})
	return p
}

// eachAttached calls fn with each of the programs that are attached always.
func eachAttached(t testing.TB, p *Programs, fn func(*cebpf.Program)) {
	t.Helper()
	for _, l := range p.links {
		info, err := l.Info()
		if err != nil {
			t.Fatal(err)
		}
		program, err := cebpf.NewProgramFromID(info.Program)
		if err != nil {
			t.Fatal(err)
		}
		fn(program)
		program.Close()
	}
}
