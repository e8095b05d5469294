package spec

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestGoldenDefaultFilter(t *testing.T) {
	checkJSON(t, "seccomp-default", DefaultProfile().Filter(SeccompFacts{Capabilities: DefaultCapabilities, Arch: specs.ArchX86_64, Kernel: Kernel{6, 18}}))
}

// verdict is what a filter does with a call whose arguments are args; false means
// that it depends on none of the rules.
func verdict(f *specs.LinuxSeccomp, call string, args ...uint64) (specs.LinuxSeccompAction, uint) {
	for _, rule := range f.Syscalls {
		if !slices.Contains(rule.Names, call) {
			continue
		}
		if !slices.ContainsFunc(rule.Args, func(a specs.LinuxSeccompArg) bool {
			var v uint64
			if int(a.Index) < len(args) {
				v = args[a.Index]
			}
			switch a.Op {
			case specs.OpEqualTo:
				return v != a.Value
			case specs.OpNotEqual:
				return v == a.Value
			case specs.OpMaskedEqual:
				return v&a.Value != a.ValueTwo
			}
			return true
		}) {
			errno := uint(0)
			if rule.ErrnoRet != nil {
				errno = *rule.ErrnoRet
			}
			return rule.Action, errno
		}
	}
	return f.DefaultAction, *f.DefaultErrnoRet
}

func TestDefaultProfileAllowsWhatProgramsNeedAndFollowsCapabilities(t *testing.T) {
	filter := func(caps ...string) *specs.LinuxSeccomp {
		return DefaultProfile().Filter(SeccompFacts{Capabilities: append(caps, DefaultCapabilities...), Arch: specs.ArchX86_64, Kernel: Kernel{6, 1}})
	}
	plain := filter()
	for _, call := range []string{"read", "execve", "openat2", "clone", "futex_waitv", "landlock_create_ruleset", "arch_prctl", "modify_ldt", "statmount", "ptrace", "rseq", "fchmodat2"} {
		if action, _ := verdict(plain, call); action != specs.ActAllow {
			t.Errorf("%s: %s", call, action)
		}
	}
	for _, call := range []string{"mount", "umount2", "unshare", "setns", "bpf", "perf_event_open", "init_module", "kexec_load", "keyctl", "add_key", "request_key",
		"userfaultfd", "io_uring_setup", "io_uring_enter", "open_by_handle_at", "reboot", "swapon", "ioperm", "pivot_root", "chroot", "syslog", "quotactl", "acct", "nfsservctl",
		"settimeofday", "fsopen", "move_mount", "mount_setattr", "lookup_dcookie", "vhangup", "kcmp"} {
		if action, errno := verdict(plain, call); action != specs.ActErrno || errno != errnoEPERM {
			t.Errorf("%s: %s %d", call, action, errno)
		}
	}
	for caps, call := range map[string]string{
		"CAP_SYS_ADMIN": "mount", "CAP_SYS_CHROOT": "chroot", "CAP_SYS_TIME": "settimeofday", "CAP_BPF": "bpf", "CAP_PERFMON": "perf_event_open",
		"CAP_SYSLOG": "syslog", "CAP_SYS_MODULE": "init_module", "CAP_SYS_PTRACE": "kcmp", "CAP_SYS_NICE": "mbind", "CAP_DAC_READ_SEARCH": "open_by_handle_at",
	} {
		if action, _ := verdict(filter(caps), call); action != specs.ActAllow {
			t.Errorf("%s with %s: %s", call, caps, action)
		}
	}
	const cloneNewUser, cloneVM = 0x10000000, 0x100
	if action, _ := verdict(plain, "clone", cloneVM); action != specs.ActAllow {
		t.Errorf("a thread: %s", action)
	}
	if action, _ := verdict(plain, "clone", cloneVM|cloneNewUser); action != specs.ActErrno {
		t.Errorf("a user namespace: %s", action)
	}
	if action, errno := verdict(plain, "clone3"); action != specs.ActErrno || errno != errnoENOSYS {
		t.Errorf("clone3: %s %d", action, errno)
	}
	if action, _ := verdict(filter("CAP_SYS_ADMIN"), "clone3"); action != specs.ActAllow {
		t.Errorf("clone3 of an administrator: %s", action)
	}
	if action, _ := verdict(filter("CAP_SYS_ADMIN"), "clone", cloneNewUser); action != specs.ActAllow {
		t.Errorf("clone of an administrator: %s", action)
	}
	for family, want := range map[uint64]specs.LinuxSeccompAction{1: specs.ActAllow, 2: specs.ActAllow, 10: specs.ActAllow, familyVSOCK: specs.ActErrno} {
		if action, _ := verdict(plain, "socket", family); action != want {
			t.Errorf("socket of family %d: %s", family, action)
		}
	}
	for value, want := range map[uint64]specs.LinuxSeccompAction{0: specs.ActAllow, 8: specs.ActAllow, 0xffffffff: specs.ActAllow, 0x0040000: specs.ActErrno} {
		if action, _ := verdict(plain, "personality", value); action != want {
			t.Errorf("personality %#x: %s", value, action)
		}
	}
	if names := strings.Fields(safeCalls); len(names) < 350 {
		t.Errorf("only %d calls", len(names))
	}
	seen := map[string]bool{}
	for _, name := range strings.Fields(safeCalls) {
		if seen[name] {
			t.Errorf("%s is listed twice", name)
		}
		seen[name] = true
	}
	for _, c := range capabilityCalls {
		for _, name := range strings.Fields(c.calls) {
			if seen[name] {
				t.Errorf("%s needs %s and is allowed to everybody", name, c.capability)
			}
		}
	}
}

func TestDefaultProfileOfOtherMachines(t *testing.T) {
	for arch, want := range map[specs.Arch][]specs.Arch{
		specs.ArchX86_64:  {specs.ArchX86_64, specs.ArchX86, specs.ArchX32},
		specs.ArchAARCH64: {specs.ArchAARCH64, specs.ArchARM},
		specs.ArchS390X:   {specs.ArchS390X, specs.ArchS390},
	} {
		f := DefaultProfile().Filter(SeccompFacts{Arch: arch, Capabilities: DefaultCapabilities})
		if !slices.Equal(f.Architectures, want) {
			t.Errorf("%s: %v", arch, f.Architectures)
		}
		if action, _ := verdict(f, "arch_prctl"); (action == specs.ActAllow) != (arch == specs.ArchX86_64) {
			t.Errorf("%s: arch_prctl %s", arch, action)
		}
		index := 0
		if arch == specs.ArchS390X {
			index = 1
		}
		args := make([]uint64, 2)
		args[index] = 0x10000000
		if action, _ := verdict(f, "clone", args...); action != specs.ActErrno {
			t.Errorf("%s: a user namespace: %s", arch, action)
		}
	}
	if defaultSeccomp().Architectures == nil {
		t.Error("this build's architecture is unknown")
	}
	old := DefaultProfile().Filter(SeccompFacts{Arch: specs.ArchX86_64, Kernel: Kernel{4, 7}})
	if action, _ := verdict(old, "ptrace"); action != specs.ActErrno {
		t.Errorf("ptrace before 4.8: %s", action)
	}
}

func TestProfilesOfOthersAreUnderstood(t *testing.T) {
	p, err := ParseProfile([]byte(`{
		"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
		"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}, {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null}],
		"flags": ["SECCOMP_FILTER_FLAG_LOG"],
		"syscalls": [
			{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "x", "includes": {}, "excludes": {}},
			{"name": "bpf", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF", "CAP_PERFMON"]}},
			{"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
			{"names": ["b"], "action": "SCMP_ACT_LOG", "excludes": {"arches": ["arm64"], "caps": ["CAP_KILL"]}},
			{"names": ["c"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "includes": {"minKernel": "5.10"}, "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]},
			{"names": ["d"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.10"}}
		]}`))
	if err != nil {
		t.Fatal(err)
	}
	names := func(facts SeccompFacts) string {
		var all []string
		for _, s := range p.Filter(facts).Syscalls {
			all = append(all, s.Names...)
		}
		return strings.Join(all, " ")
	}
	for want, facts := range map[string]SeccompFacts{
		"read write a b c":     {Arch: specs.ArchX86_64, Kernel: Kernel{5, 10}},
		"read write a b d":     {Arch: specs.ArchX86_64, Kernel: Kernel{5, 4}, Capabilities: []string{"CAP_BPF"}},
		"read write bpf a c":   {Arch: specs.ArchX86_64, Kernel: Kernel{6, 0}, Capabilities: []string{"CAP_BPF", "CAP_PERFMON", "CAP_KILL"}},
		"read write c":         {Arch: specs.ArchAARCH64, Kernel: Kernel{6, 0}},
		"read write bpf a b c": {Arch: specs.ArchX86_64, Capabilities: []string{"CAP_BPF", "CAP_PERFMON"}},
	} {
		if got := names(facts); got != want {
			t.Errorf("%+v: %s", facts, got)
		}
	}
	f := p.Filter(SeccompFacts{Arch: specs.ArchX86_64})
	if *f.DefaultErrnoRet != 38 || !slices.Equal(f.Architectures, []specs.Arch{specs.ArchX86_64, specs.ArchX86}) || len(f.Flags) != 1 {
		t.Errorf("%+v", f)
	}
	last := f.Syscalls[len(f.Syscalls)-1]
	if *last.ErrnoRet != 5 || !reflect.DeepEqual(last.Args, []specs.LinuxSeccompArg{{Index: 1, Value: 2, ValueTwo: 3, Op: specs.OpMaskedEqual}}) {
		t.Errorf("%+v", last)
	}
}

func TestAnOCIFilterIsAProfile(t *testing.T) {
	want := defaultSeccomp()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParseProfile(text)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Filter(SeccompFacts{Arch: specs.ArchAARCH64}); !reflect.DeepEqual(got, want) {
		t.Error("came back differently")
	}
}

func TestBadProfilesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "not JSON": "{", "array": "[]", "trailing": `{"defaultAction":"SCMP_ACT_ALLOW"} {}`, "no action": "{}",
		"unknown action":   `{"defaultAction":"ALLOW"}`,
		"both arch forms":  `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}`,
		"unknown flag":     `{"defaultAction":"SCMP_ACT_ALLOW","flags":["X"]}`,
		"rule w/o names":   `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_ALLOW"}]}`,
		"name and names":   `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}`,
		"rule w/o action":  `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"]}]}`,
		"unknown operator": `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"],"action":"SCMP_ACT_LOG","args":[{"index":0,"op":"EQ"}]}]}`,
		"argument 6":       `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"],"action":"SCMP_ACT_LOG","args":[{"index":6,"op":"SCMP_CMP_EQ"}]}]}`,
		"min kernel":       `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"],"action":"SCMP_ACT_LOG","includes":{"minKernel":"new"}}]}`,
		"name with blank":  `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a b"],"action":"SCMP_ACT_LOG"}]}`,
		"too many rules":   `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"` + strings.Repeat(`,"a"`, maxProfileRules) + `],"action":"SCMP_ACT_LOG"}]}`,
		"too big":          strings.Repeat(" ", maxProfileBytes+1),
	} {
		if _, err := ParseProfile([]byte(text)); !errors.Is(err, pod.ErrInvalid) || len(err.Error()) > 300 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	text, _ := json.Marshal(DefaultProfile())
	f.Add(text)
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","action":"SCMP_ACT_KILL","includes":{"minKernel":"5.1"}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) { // property: what is accepted filters, and its OCI form is accepted again
		p, err := ParseProfile(text)
		if err != nil {
			if !errors.Is(err, pod.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		oci, err := json.Marshal(p.Filter(SeccompFacts{Capabilities: knownCapabilities, Arch: specs.ArchX86_64}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseProfile(oci); err != nil {
			t.Fatalf("%s: %v", oci, err)
		}
	})
}

func TestSeccompProfileIsTheRequestsOrTheAdministrators(t *testing.T) {
	type ctx = runtime.LinuxContainerSecurityContext
	own := &Profile{DefaultAction: specs.ActLog}
	local := &Profile{DefaultAction: specs.ActKillProcess}
	profile := func(kind runtime.SecurityProfile_ProfileType, ref string) *runtime.SecurityProfile {
		return &runtime.SecurityProfile{ProfileType: kind, LocalhostRef: ref}
	}
	for name, c := range map[string]struct {
		security *ctx
		defaults Defaults
		want     specs.LinuxSeccompAction // empty is none
		path     string
	}{
		"unset":                    {want: ""},
		"unset, administrator":     {defaults: Defaults{SeccompUnset: true}, want: specs.ActErrno},
		"runtime default":          {security: &ctx{Seccomp: profile(0, "")}, want: specs.ActErrno},
		"runtime default, own":     {security: &ctx{Seccomp: profile(0, "")}, defaults: Defaults{Seccomp: own}, want: specs.ActLog},
		"unconfined":               {security: &ctx{Seccomp: profile(1, "")}, defaults: Defaults{SeccompUnset: true}},
		"localhost":                {security: &ctx{Seccomp: profile(2, "/p.json")}, want: specs.ActKillProcess, path: "/p.json"},
		"deprecated default":       {security: &ctx{SeccompProfilePath: "runtime/default"}, want: specs.ActErrno},
		"deprecated localhost":     {security: &ctx{SeccompProfilePath: "localhost//p.json"}, want: specs.ActKillProcess, path: "/p.json"},
		"the new field wins":       {security: &ctx{Seccomp: profile(1, ""), SeccompProfilePath: "runtime/default"}},
		"privileged reads no file": {security: &ctx{Seccomp: profile(2, "/p.json"), Privileged: true}},
	} {
		in := input()
		in.Defaults, in.Seccomp = c.defaults, local
		in.Sandbox.Linux.SecurityContext.Privileged = true
		if c.security == nil {
			c.security = &ctx{}
		}
		c.security.NamespaceOptions = in.securityContext().NamespaceOptions
		in.Container.Linux.SecurityContext = c.security
		s, err := Container(in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got specs.LinuxSeccompAction
		if s.Linux.Seccomp != nil {
			got = s.Linux.Seccomp.DefaultAction
		}
		if path, err := LocalhostSeccomp(in.Container); got != c.want || err != nil || path != c.path {
			t.Errorf("%s: %q, %q, %v", name, got, path, err)
		}
	}
	for _, bad := range []string{"relative.json", "/a\x00"} {
		if _, err := LocalhostSeccomp(&runtime.ContainerConfig{Linux: &runtime.LinuxContainerConfig{SecurityContext: &ctx{Seccomp: profile(2, bad)}}}); !errors.Is(err, pod.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// defaultSeccomp is DefaultProfile for a container with DefaultCapabilities on this
// build's architecture and a current kernel.
func defaultSeccomp() *specs.LinuxSeccomp {
	return DefaultProfile().Filter(SeccompFacts{Capabilities: DefaultCapabilities})
}
