package enter_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/launch/enter"
)

func TestFactsAreReadAsTheyWereWritten(t *testing.T) {
	dir := t.TempDir()
	if _, err := enter.ReadFacts(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	want := enter.Facts{Namespaces: []enter.Namespace{{Flag: 0x40000000, Path: "/run/net"}}, Cgroups: []string{"/a", "/b"},
		Unified: "/u", Freezer: "/f", Thawed: "THAWED", Keyring: "_ses.x", Filter: "/filter", FilterFlags: 2}
	if err := enter.WriteFacts(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := enter.ReadFacts(dir); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	path := filepath.Join(dir, "enter.json")
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	if got, err := enter.ReadFacts(dir); err == nil {
		t.Errorf("others can write to them: got %+v", got)
	}
}

func TestOnlyTheWholeFilterIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "filters", "one")
	want := enter.Filter(bytes.Repeat([]byte{6, 0, 0, 0, 0, 0, 0xff, 0x7f}, 100))
	if err := enter.WriteFilter(path, want); err != nil {
		t.Fatal(err)
	}
	if got, err := enter.ReadFilter(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		spoilt := bytes.Clone(whole)
		spoilt[i] ^= 1
		for name, raw := range map[string][]byte{"a bit flipped": spoilt, "cut off": whole[:i]} {
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := enter.ReadFilter(path); !errors.Is(err, enter.ErrDamaged) {
				t.Fatalf("%s at %d: %d bytes, %v", name, i, len(got), err)
			}
		}
	}
	for name, f := range map[string]enter.Filter{"empty": nil, "half an instruction": want[:12], "too long": make(enter.Filter, 8*5000)} {
		if err := enter.WriteFilter(path, f); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := enter.WriteFilter(path, want); err == nil {
		t.Error("written where others can write")
	}
}

func TestFiltersAreBounded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "filters")
	for i := range 600 {
		if err := enter.WriteFilter(filepath.Join(dir, fmt.Sprint(i)), make(enter.Filter, 8)); err != nil {
			t.Fatal(err)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 256 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

func TestPlanLeavesToLibcontainerWhatOnlyThatKnows(t *testing.T) {
	for name, change := range map[string]func(*specs.Process){
		"nothing else":         func(*specs.Process) {},
		"terminal":             func(p *specs.Process) { p.Terminal = true },
		"NUL in the profile":   func(p *specs.Process) { p.ApparmorProfile = "a\x00b" },
		"SELinux":              func(p *specs.Process) { p.SelinuxLabel = "x" },
		"umask":                func(p *specs.Process) { p.User.Umask = new(uint32) },
		"scheduler":            func(p *specs.Process) { p.Scheduler = &specs.Scheduler{} },
		"priority of I/O":      func(p *specs.Process) { p.IOPriority = &specs.LinuxIOPriority{} },
		"affinity":             func(p *specs.Process) { p.ExecCPUAffinity = &specs.CPUAffinity{} },
		"unknown limit":        func(p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_MIND"}} },
		"unknown capability":   func(p *specs.Process) { p.Capabilities.Bounding = []string{"CAP_FLY"} },
		"no capabilities":      func(p *specs.Process) { p.Capabilities = nil },
		"no command":           func(p *specs.Process) { p.Args = nil },
		"empty command":        func(p *specs.Process) { p.Args = []string{""} },
		"NUL in an argument":   func(p *specs.Process) { p.Args = []string{"a", "b\x00c"} },
		"NUL in a variable":    func(p *specs.Process) { p.Env = []string{"A=b\x00c"} },
		"variable without '='": func(p *specs.Process) { p.Env = []string{"A"} },
		"nameless variable":    func(p *specs.Process) { p.Env = []string{"=b"} },
		"relative directory":   func(p *specs.Process) { p.Cwd = "tmp" },
	} {
		p := specs.Process{Args: []string{"true"}, Cwd: "/", Capabilities: &specs.LinuxCapabilities{}}
		change(&p)
		_, err := enter.Plan(enter.Facts{}, nil, &p)
		if (name == "nothing else") != (err == nil) || err != nil && !errors.Is(err, enter.ErrNeedsLibcontainer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSessionsPlanHasItsProfileForTheKernel(t *testing.T) {
	for profile, want := range map[string]string{"": "", "one": "exec one", "one//&:other://two": "exec one//&:other://two"} {
		p := specs.Process{Args: []string{"true"}, Cwd: "/", Capabilities: &specs.LinuxCapabilities{}, ApparmorProfile: profile}
		plan, err := enter.Plan(enter.Facts{}, nil, &p)
		if err != nil {
			t.Fatal(err)
		}
		const apparmor = 31 * 8
		var got string
		if at := binary.NativeEndian.Uint64(plan[apparmor:]); at != 0 {
			text, _, _ := bytes.Cut(plan[at:], []byte{0})
			got = string(text)
		}
		if got != want {
			t.Errorf("%q: the plan has %q", profile, got)
		}
	}
}

// Whatever the strings are, each is where its list says, and nothing else is.
func FuzzPlan(f *testing.F) {
	f.Add("true", "A=b", "/", "/sys/fs/cgroup/pids/x", uint32(7))
	f.Add("a b", "PATH=", "/tmp", "", uint32(0))
	f.Fuzz(func(t *testing.T, arg, env, dir, group string, gid uint32) {
		p := specs.Process{Args: []string{"x", arg}, Env: []string{env}, Cwd: dir, Capabilities: &specs.LinuxCapabilities{}, User: specs.User{AdditionalGids: []uint32{gid, 1}}}
		plan, err := enter.Plan(enter.Facts{Cgroups: []string{group}}, enter.Filter("12345678"), &p)
		if err != nil {
			return
		}
		word := func(at uint64) uint64 { return binary.NativeEndian.Uint64(plan[at:]) }
		text := func(at uint64) string { s, _, _ := bytes.Cut(plan[at:], []byte{0}); return string(s) }
		const groups, argv, envp, cwd, filter, cgroups = 4 * 8, 12 * 8, 13 * 8, 16 * 8, 17 * 8, 24 * 8
		if word(8) != uint64(len(plan)) || word(word(groups)) != uint64(gid) || string(plan[word(filter):][:8]) != "12345678" ||
			text(word(cwd)) != dir || text(word(word(argv)+8)) != arg || word(word(argv)+16) != 0 || text(word(word(envp))) != env && env != "HOME=" ||
			bytes.IndexByte([]byte(group), 0) < 0 && text(word(word(cgroups))) != group {
			t.Errorf("arg %q, env %q, dir %q, group %q: %q", arg, env, dir, group, plan)
		}
	})
}
