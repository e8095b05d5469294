package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
)

// Watches tells whether the daemon has loaded its programs of OOM kills, and waits until
// that is decided.
func (in *Instance) Watches() (bool, error) {
	answer, err := in.Get("/v1/check")
	for deadline := time.Now().Add(Scale(30 * time.Second)); err != nil && time.Now().Before(deadline); {
		answer, err = in.Get("/v1/check") // it waits for the programs, which a busy machine loads for long
	}
	if err != nil {
		return false, err
	}
	var list []struct {
		Feature string
		OK      bool
	}
	if err := json.Unmarshal([]byte(answer), &list); err != nil {
		return false, fmt.Errorf("what can be watched: %w", err)
	}
	for _, f := range list {
		if f.Feature == "eBPF OOM kills" {
			return f.OK, nil
		}
	}
	return false, nil
}

// NeedWatch skips a test where the kernel describes no types or refuses programs to this
// process, and fails it where it does neither and the daemon does not watch.
func (in *Instance) NeedWatch(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		t.Skip("needs a kernel that describes its types (CONFIG_DEBUG_INFO_BTF): ", err)
	}
	if err := features.HaveProgramType(ebpf.TracePoint); err != nil {
		t.Skip("needs a kernel that takes programs for tracepoints (CONFIG_BPF_EVENTS, CAP_BPF): ", err)
	}
	if !Must(in.Watches())(t) {
		t.Fatal("the kernel takes programs, but the daemon has loaded none")
	}
}
