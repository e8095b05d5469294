package enter_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/launch/enter"
)

func aBirth() enter.Birth {
	return enter.Birth{Root: "/root/fs", Ops: []enter.Op{
		{Kind: enter.OpMount, Path: "/proc", Source: "proc", Type: "proc", Set: 7},
		{Kind: enter.OpLink, Path: "/dev/fd", Source: "/proc/self/fd"},
	}, Sysctls: [][2]string{{"sys/net/x", "1"}}, ReadOnlyPaths: []string{"/a", "/b"}, Hostname: "box"}
}

func aProcess() *specs.Process {
	return &specs.Process{Args: []string{"true"}, Cwd: "/", Capabilities: &specs.LinuxCapabilities{}}
}

func TestPlanOfABirthHasEachPartWhereItsWordSays(t *testing.T) {
	plan, err := enter.NewInit(aBirth(), nil, aProcess())
	if err != nil {
		t.Fatal(err)
	}
	word := func(at uint64) uint64 { return binary.NativeEndian.Uint64(plan[at:]) }
	text := func(at uint64) string { s, _, _ := bytes.Cut(plan[at:], []byte{0}); return string(s) }
	const apparmor, birth, root, ops, opCount, hostname, domainname, sysctls, readonly, masked = 31 * 8, 32 * 8, 34 * 8, 37 * 8, 38 * 8, 39 * 8, 40 * 8, 41 * 8, 43 * 8, 44 * 8
	const opSize = 11 * 8
	if word(birth) == 0 || text(word(root)) != "/root/fs" || word(opCount) != 2 || text(word(hostname)) != "box" || word(domainname) != 0 || word(apparmor) != 0 {
		t.Errorf("words: %q", plan[:45*8])
	}
	first, second := word(ops), word(ops)+opSize
	if word(first) != uint64(enter.OpMount) || text(word(first+8)) != "/proc" || text(word(first+24)) != "proc" || word(first+48) != 7 ||
		text(word(second+8)) != "/dev/fd" || text(word(second+16)) != "/proc/self/fd" {
		t.Errorf("ops: %q", plan[first:second+opSize])
	}
	if text(word(word(sysctls))) != "sys/net/x" || text(word(word(sysctls)+8)) != "1" ||
		text(word(word(readonly)+8)) != "/b" || word(word(readonly)+16) != 0 || word(word(masked)) != 0 {
		t.Errorf("lists: %q", plan)
	}
	confined := aProcess()
	confined.ApparmorProfile = "a profile"
	if plan, err = enter.NewInit(aBirth(), nil, confined); err != nil || text(word(apparmor)) != "exec a profile" {
		t.Errorf("the profile is not in the plan: %v", err)
	}
	session, err := enter.Plan(enter.Facts{}, nil, aProcess())
	if err != nil || binary.NativeEndian.Uint64(session[birth:]) != 0 {
		t.Errorf("an exec session's plan is one of a birth: %v", err)
	}
}

func TestBirthsThatAreNotExpectedNeedLibcontainer(t *testing.T) {
	for name, change := range map[string]func(*enter.Birth, *specs.Process){
		"relative root":      func(b *enter.Birth, _ *specs.Process) { b.Root = "fs" },
		"the host's root":    func(b *enter.Birth, _ *specs.Process) { b.Root = "/" },
		"no mounts":          func(b *enter.Birth, _ *specs.Process) { b.Ops = nil },
		"procfs not first":   func(b *enter.Birth, _ *specs.Process) { b.Ops[0], b.Ops[1] = b.Ops[1], b.Ops[0] },
		"procfs elsewhere":   func(b *enter.Birth, _ *specs.Process) { b.Ops[0].Path = "/proc2" },
		"path not clean":     func(b *enter.Birth, _ *specs.Process) { b.Ops[1].Path = "/a/../b" },
		"relative path":      func(b *enter.Birth, _ *specs.Process) { b.Ops[1].Path = "a" },
		"mount on the root":  func(b *enter.Birth, _ *specs.Process) { b.Ops[1].Path = "/" },
		"NUL in an option":   func(b *enter.Birth, _ *specs.Process) { b.Ops[1].Data = "a\x00" },
		"too many mounts":    func(b *enter.Birth, _ *specs.Process) { b.Ops = append(b.Ops, make([]enter.Op, 20000)...) },
		"covered root":       func(b *enter.Birth, _ *specs.Process) { b.MaskedPaths = []string{"/"} },
		"relative cover":     func(b *enter.Birth, _ *specs.Process) { b.ReadOnlyPaths = []string{"a"} },
		"sysctl elsewhere":   func(b *enter.Birth, _ *specs.Process) { b.Sysctls[0][0] = "sys/../1/mem" },
		"sysctl not of sys":  func(b *enter.Birth, _ *specs.Process) { b.Sysctls[0][0] = "self/mem" },
		"NUL in the name":    func(b *enter.Birth, _ *specs.Process) { b.Hostname = "a\x00b" },
		"directory with ..":  func(_ *enter.Birth, p *specs.Process) { p.Cwd = "/a/../.." },
		"a terminal":         func(_ *enter.Birth, p *specs.Process) { p.Terminal = true },
		"a label of SELinux": func(_ *enter.Birth, p *specs.Process) { p.SelinuxLabel = "x" },
		"an odd profile":     func(_ *enter.Birth, p *specs.Process) { p.ApparmorProfile = "a\x00b" },
	} {
		b, p := aBirth(), aProcess()
		change(&b, p)
		if _, err := enter.NewInit(b, nil, p); !errors.Is(err, enter.ErrNeedsLibcontainer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
