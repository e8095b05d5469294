package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// withoutBPF is the word by which this binary executes a command whose calls of bpf(2) are
// refused with EPERM, as they are where a hardened host or a container around the daemon
// does not allow them. The capability alone cannot be taken away: CAP_SYS_ADMIN, without
// which no container can be made, contains it.
const withoutBPF = "without-bpf"

func executeWithoutBPF(command []string) {
	runtime.LockOSThread() // a filter belongs to a thread, and goes through execve with it
	program := refuseBPF(cgroupV2())
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0)
	if err == nil {
		err = unix.Exec(command[0], command, os.Environ())
	}
	fmt.Fprintf(os.Stderr, "%s without bpf(2): %v\n", command[0], err)
	os.Exit(1)
}

func cgroupV2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// refuseBPF is a filter that answers bpf(2) with EPERM. With cgroup v2 alone libcontainer
// confines devices by a program of its own, without which it makes no container: there all
// that a program with maps needs is refused, and loading and attaching it is not.
func refuseBPF(devices bool) []unix.SockFilter {
	const number, command = 0, 16 // offsets in struct seccomp_data, of a little-endian machine
	refuse := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}
	allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	unless := func(k uint32, skip uint8) unix.SockFilter { // goes on if equal
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: skip}
	}
	if !devices {
		return []unix.SockFilter{load(number), unless(unix.SYS_BPF, 1), refuse, allow}
	}
	program := []unix.SockFilter{load(number), unless(unix.SYS_BPF, 11), load(command)}
	for _, c := range []uint32{unix.BPF_MAP_CREATE, unix.BPF_OBJ_PIN, unix.BPF_OBJ_GET, unix.BPF_RAW_TRACEPOINT_OPEN, unix.BPF_LINK_CREATE} {
		program = append(program, unless(c, 1), refuse)
	}
	return append(program, allow)
}

// The daemon whose calls of bpf(2) are refused starts, says so wherever it is asked, and has
// right verdicts or none.
func TestOOMVerdictWithoutBPFIsRightOrUnknown(t *testing.T) {
	n := start(t, harness.Options{Under: []string{"/proc/self/exe", withoutBPF}})
	if harness.Must(n.Watches())(t) {
		t.Fatal("the programs were loaded all the same")
	}
	const reason = "no right to load programs"
	if out := n.vitrine("check"); !strings.Contains(out, reason) || !strings.Contains(out, "OOM verdicts rest on the cgroup's counters") || strings.Contains(out, "eBPF syscall counts") {
		t.Errorf("check:\n%s", out)
	}
	if log, _ := os.ReadFile(n.DaemonLog()); !strings.Contains(string(log), "containers are not observed by eBPF") || !strings.Contains(string(log), reason) {
		t.Error("the daemon's log does not say why containers are not observed")
	}
	for _, tc := range oomMatrix {
		t.Run(tc.name, func(t *testing.T) {
			tc.skip(t)
			m := *n
			m.TB = t
			p := n.HostPod("blind")
			sandbox := harness.Must(n.cri.RunPod(n.ctx, p))(t)
			id := tc.play(t, &m, p, sandbox)
			s := harness.Must(n.cri.Status(n.ctx, id))(t)
			t.Logf("%s: %s", s.Reason, s.Message)
			unknown := s.Reason == "Error" && strings.Contains(s.Message, "not known")
			if s.ExitCode != tc.code || s.Reason != tc.reason && !unknown {
				t.Errorf("reason %q code %d message %q, want %q or unknown", s.Reason, s.ExitCode, s.Message, tc.reason)
			}
			// systemd removes a scope, and with it the counter, with its last process; then
			// the pod's tells, which counts what happens below it on v2 only.
			counted := n.Options.CgroupDriver != "systemd" || groupKill(t) == ""
			if counted && !strings.Contains(s.Message, "OOM") && !strings.Contains(s.Message, "memory ran out") {
				t.Errorf("the kill is not told: %q", s.Message)
			}
			if s.Reason == "OOMKilled" && !strings.Contains(s.Message, "which processes held it, was not observed") {
				t.Errorf("who held the memory is not said to be unknown: %q", s.Message)
			}
			if kills := m.kills(id); len(kills) != 0 {
				t.Errorf("kills that nobody has seen: %+v", kills)
			}
			m.must(n.cri.RemovePod(n.ctx, sandbox))
		})
	}
	if out := n.vitrine("oom"); !strings.Contains(out, "no OOM kill is on record") || !strings.Contains(out, "kills are not observed") {
		t.Errorf("oom:\n%s", out)
	}
	var kills []json.RawMessage
	if err := json.Unmarshal([]byte(n.vitrine("oom", "-o", "json")), &kills); err != nil || len(kills) != 0 {
		t.Errorf("oom as JSON: %v, %v", kills, err)
	}
	n.nothingLeft()
}
