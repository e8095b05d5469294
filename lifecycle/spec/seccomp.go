package spec

import (
	"bytes"
	"encoding/json"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Bounds of a profile from outside.
const (
	maxProfileBytes = 4 << 20
	maxProfileRules = 10000
)

// Profile is a seccomp profile in the format that Docker, Podman and Kubernetes
// use. An OCI linux.seccomp object is one as well. It is immutable once parsed.
type Profile struct {
	DefaultAction    specs.LinuxSeccompAction `json:"defaultAction"`
	DefaultErrnoRet  *uint                    `json:"defaultErrnoRet,omitempty"`
	Architectures    []specs.Arch             `json:"architectures,omitempty"`
	ArchMap          []ProfileArch            `json:"archMap,omitempty"`
	Flags            []specs.LinuxSeccompFlag `json:"flags,omitempty"`
	ListenerPath     string                   `json:"listenerPath,omitempty"`
	ListenerMetadata string                   `json:"listenerMetadata,omitempty"`
	Syscalls         []ProfileRule            `json:"syscalls"`
}

// ProfileArch adds the architectures of which a native one executes programs, too.
type ProfileArch struct {
	Arch     specs.Arch   `json:"architecture"`
	SubArchs []specs.Arch `json:"subArchitectures"`
}

// ProfileRule is one action for some system calls, with conditions under which the
// rule is part of the filter at all.
type ProfileRule struct {
	Name     string                   `json:"name,omitempty"` // an older form of Names
	Names    []string                 `json:"names,omitempty"`
	Action   specs.LinuxSeccompAction `json:"action"`
	ErrnoRet *uint                    `json:"errnoRet,omitempty"`
	Args     []specs.LinuxSeccompArg  `json:"args,omitempty"`
	Includes ProfileCondition         `json:"includes,omitzero"`
	Excludes ProfileCondition         `json:"excludes,omitzero"`
}

// ProfileCondition is about the container: all of Caps in its bounding set, the
// native architecture among Arches (Go's names), a kernel of at least MinKernel.
// As an exclusion any single one of them suffices.
type ProfileCondition struct {
	Caps      []string `json:"caps,omitempty"`
	Arches    []string `json:"arches,omitempty"`
	MinKernel string   `json:"minKernel,omitempty"`
}

// ParseProfile reads a profile of at most 4 MiB. Unknown fields are ignored, as the
// format's other readers do; unknown actions, operators and conditions are not.
func ParseProfile(text []byte) (*Profile, error) {
	if len(text) > maxProfileBytes {
		return nil, invalid("seccomp profile: %d bytes are more than %d", len(text), maxProfileBytes)
	}
	p := &Profile{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(p); err != nil {
		return nil, invalid("seccomp profile: not the JSON of one: %v", err)
	}
	if rest := bytes.TrimSpace(text[decoder.InputOffset():]); len(rest) > 0 {
		return nil, invalid("seccomp profile: something follows the JSON object: %.40q", rest)
	}
	return p, p.check()
}

var (
	seccompActions = []specs.LinuxSeccompAction{specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap,
		specs.ActErrno, specs.ActTrace, specs.ActAllow, specs.ActLog, specs.ActNotify}
	seccompOperators = []specs.LinuxSeccompOperator{specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
		specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual}
	seccompFlags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow, specs.LinuxSeccompFlagWaitKillableRecv}
)

func (p *Profile) check() error {
	if !slices.Contains(seccompActions, p.DefaultAction) {
		return invalid("seccomp profile: defaultAction %.40q is unknown", p.DefaultAction)
	}
	if len(p.Architectures) > 0 && len(p.ArchMap) > 0 {
		return invalid("seccomp profile: architectures and archMap exclude each other")
	}
	for _, f := range p.Flags {
		if !slices.Contains(seccompFlags, f) {
			return invalid("seccomp profile: flag %.40q is unknown", f)
		}
	}
	rules := 0
	for i, r := range p.Syscalls {
		names := r.allNames()
		if rules += len(names); rules > maxProfileRules {
			return invalid("seccomp profile: more than %d rules", maxProfileRules)
		}
		if len(names) == 0 || r.Name != "" && len(r.Names) > 0 {
			return invalid("seccomp profile: syscalls[%d] has no names, or both name and names", i)
		}
		if slices.ContainsFunc(names, func(n string) bool { return n == "" || len(n) > 64 || strings.ContainsAny(n, "\x00 \n") }) {
			return invalid("seccomp profile: syscalls[%d] has a name that is none", i)
		}
		if !slices.Contains(seccompActions, r.Action) {
			return invalid("seccomp profile: syscalls[%d] has unknown action %.40q", i, r.Action)
		}
		for _, a := range r.Args {
			if a.Index > 5 || !slices.Contains(seccompOperators, a.Op) {
				return invalid("seccomp profile: syscalls[%d] compares argument %d by %.40q", i, a.Index, a.Op)
			}
		}
		for _, c := range []ProfileCondition{r.Includes, r.Excludes} {
			if _, ok := parseKernel(c.MinKernel); c.MinKernel != "" && !ok {
				return invalid("seccomp profile: syscalls[%d] has minKernel %.40q, which is not major.minor", i, c.MinKernel)
			}
		}
	}
	return nil
}

func (r ProfileRule) allNames() []string {
	if r.Name != "" {
		return append(slices.Clone(r.Names), r.Name)
	}
	return r.Names
}

// SeccompFacts decide over the conditions of a profile.
type SeccompFacts struct {
	// Capabilities is the container's bounding set, as CAP_… names.
	Capabilities []string
	// Arch is the native architecture; empty means the one of this build.
	Arch specs.Arch
	// Kernel is the running one; zero means newer than any.
	Kernel Kernel
}

// Filter is the OCI form of the profile for one container.
func (p *Profile) Filter(facts SeccompFacts) *specs.LinuxSeccomp {
	if facts.Arch == "" {
		facts.Arch = nativeArch()
	}
	f := &specs.LinuxSeccomp{
		DefaultAction: p.DefaultAction, DefaultErrnoRet: p.DefaultErrnoRet,
		Architectures: slices.Clone(p.Architectures), Flags: slices.Clone(p.Flags),
		ListenerPath: p.ListenerPath, ListenerMetadata: p.ListenerMetadata,
	}
	for _, a := range p.ArchMap {
		if a.Arch == facts.Arch {
			f.Architectures = append([]specs.Arch{a.Arch}, a.SubArchs...)
		}
	}
	for _, r := range p.Syscalls {
		if !r.Includes.allHold(facts) || r.Excludes.anyHolds(facts) {
			continue
		}
		f.Syscalls = append(f.Syscalls, specs.LinuxSyscall{
			Names: slices.Clone(r.allNames()), Action: r.Action, ErrnoRet: r.ErrnoRet, Args: slices.Clone(r.Args),
		})
	}
	return f
}

func (c ProfileCondition) allHold(facts SeccompFacts) bool {
	for _, name := range c.Caps {
		if !slices.Contains(facts.Capabilities, name) {
			return false
		}
	}
	if len(c.Arches) > 0 && !slices.Contains(c.Arches, goArch(facts.Arch)) {
		return false
	}
	return c.MinKernel == "" || facts.Kernel.atLeast(c.MinKernel)
}

func (c ProfileCondition) anyHolds(facts SeccompFacts) bool {
	for _, name := range c.Caps {
		if slices.Contains(facts.Capabilities, name) {
			return true
		}
	}
	return slices.Contains(c.Arches, goArch(facts.Arch)) || c.MinKernel != "" && facts.Kernel.atLeast(c.MinKernel)
}

func (k Kernel) atLeast(version string) bool {
	v, ok := parseKernel(version)
	return ok && (k == Kernel{} || k.Major > v.Major || k.Major == v.Major && k.Minor >= v.Minor)
}

func parseKernel(s string) (Kernel, bool) {
	major, minor, _ := strings.Cut(s, ".")
	a, ok1 := decimal(major, 1<<16)
	b, ok2 := decimal(minor, 1<<16)
	return Kernel{int(a), int(b)}, ok1 && ok2
}

// archNames pairs libseccomp's names with Go's, as profiles use both.
var archNames = map[specs.Arch]string{
	specs.ArchX86_64: "amd64", specs.ArchX86: "x86", specs.ArchX32: "x32", specs.ArchAARCH64: "arm64", specs.ArchARM: "arm",
	specs.ArchPPC64LE: "ppc64le", specs.ArchS390X: "s390x", specs.ArchRISCV64: "riscv64", specs.ArchLOONGARCH64: "loong64",
}

func goArch(a specs.Arch) string { return archNames[a] }

func nativeArch() specs.Arch {
	for arch, name := range archNames {
		if name == runtime.GOARCH {
			return arch
		}
	}
	return ""
}

// LocalhostSeccomp returns the absolute path of the profile that the request names,
// or "" when it names none or is of a privileged container. The caller reads it and hands it
// over as Input.Seccomp. A path that is not absolute is pod.ErrInvalid.
func LocalhostSeccomp(c *cri.ContainerConfig) (string, error) {
	security := c.GetLinux().GetSecurityContext()
	kind, ref, _, err := securityProfile("seccomp", security.GetSeccomp(), security.GetSeccompProfilePath())
	if err != nil || kind != cri.SecurityProfile_Localhost || security.GetPrivileged() {
		return "", err
	}
	if !strings.HasPrefix(ref, "/") || hasNUL(ref) {
		return "", invalid("seccomp.localhost_ref: %.200q is not an absolute path", ref)
	}
	return ref, nil
}

func (b *builder) seccomp() (*specs.LinuxSeccomp, error) {
	kind, ref, set, err := securityProfile("seccomp", b.security.GetSeccomp(), b.security.GetSeccompProfilePath())
	if err != nil {
		return nil, err
	}
	if !set {
		kind = cri.SecurityProfile_Unconfined
		if b.Defaults.SeccompUnset {
			kind = cri.SecurityProfile_RuntimeDefault
		}
	}
	if kind == cri.SecurityProfile_Unconfined {
		return nil, nil
	}
	profile := b.Defaults.Seccomp
	if kind == cri.SecurityProfile_Localhost {
		if profile = b.Seccomp; profile == nil {
			return nil, invalid("seccomp.localhost_ref: no profile at %.200q", ref)
		}
		if !b.Host.Seccomp {
			return nil, unsupported("seccomp: profile %.200q was asked for and the kernel has no seccomp filters", ref)
		}
	}
	if !b.Host.Seccomp {
		b.warn("default seccomp profile not applied: the kernel has no seccomp filters")
		return nil, nil
	}
	if profile == nil {
		profile = DefaultProfile()
	}
	return profile.Filter(SeccompFacts{
		Capabilities: b.spec.Process.Capabilities.Bounding, Arch: b.Host.Arch, Kernel: b.Host.Kernel,
	}), nil
}
