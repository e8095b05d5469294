package ebpf

import (
	"os"
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
