package enter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ErrNeedsLibcontainer is wrapped by the errors of Plan for what vitrine-enter does not do.
var ErrNeedsLibcontainer = errors.New("needs libcontainer")

func needs(what string) error { return fmt.Errorf("%s: %w", what, ErrNeedsLibcontainer) }

// magic begins a plan: "VtrEntr4". It changes with the layout, so that a program and a plan of
// two versions do not take each other for their own.
const magic = 0x34726e7465727456

// words are the plan's beginning, a field of 8 bytes each; struct plan of enter.c.
const (
	wMagic = iota
	wSize
	wUID
	wGID
	wGroups
	wGroupCount
	wEffective
	wPermitted
	wInheritable
	wBounding
	wAmbient
	wNoNewPrivs
	wArgs
	wEnv
	wHome
	wPath
	wDir
	wFilter
	wFilterCount
	wFilterFlags
	wLimits
	wLimitCount
	wNamespaces
	wNamespaceCount
	wCgroups
	wCgroupCount
	wUnified
	wFreezer
	wThawed
	wKeyring
	wOOMScore
	wAppArmor
	wBirth
	wFresh
	wRoot
	wPropagation
	wMountPropagation
	wOps
	wOpCount
	wHostname
	wDomainname
	wSysctls
	wSysctlCount
	wReadOnly
	wMasked
	wBare
	words
)

// Plan is what vitrine-enter reads: process in the container of f, with the filter that
// f names. An error that wraps ErrNeedsLibcontainer leaves the session to that.
//
// The plan is in the machine's byte order and begins with words of 8 bytes. Strings end
// with a NUL; they, and the lists, are named by their distance from the beginning:
//
//	words | lists, 8-byte aligned | strings
//
// A list of strings ends with a zero.
func Plan(f Facts, filter Filter, process *specs.Process) ([]byte, error) {
	p := plan{head: make([]uint64, words), refs: map[int]uint64{}}
	if err := errors.Join(p.process(process), p.profile(process.ApparmorProfile)); err != nil {
		return nil, err
	}
	p.put(wFilterCount, uint64(len(filter)/instruction))
	p.put(wFilterFlags, f.FilterFlags)
	p.container(f)
	return p.encode(filter), nil
}

// plan collects a plan's parts.
type plan struct {
	head  []uint64
	refs  map[int]uint64 // words that are strings, by their places in text
	lists []list
	text  []byte
}

// A list is what the word points at. Of its values those are strings' places in text for
// which refs is true.
type list struct {
	word   int
	values []uint64
	refs   []bool
}

func (p *plan) put(word int, v uint64) { p.head[word] = v }

// str adds a string and returns its place in the text.
func (p *plan) str(s string) uint64 {
	at := uint64(len(p.text))
	p.text = append(append(p.text, s...), 0)
	return at
}

// process fills in what the command itself needs.
func (p *plan) process(o *specs.Process) error {
	switch {
	case o.Terminal:
		return needs("a terminal")
	case len(o.Args) == 0 || o.Args[0] == "":
		return needs("an empty command") // to be refused
	case o.Capabilities == nil:
		return needs("a process without a word on capabilities")
	case o.SelinuxLabel != "":
		return needs("a label of SELinux")
	case o.Scheduler != nil || o.IOPriority != nil || o.ExecCPUAffinity != nil:
		return needs("scheduling of its own")
	case o.User.Umask != nil:
		return needs("a umask")
	case !filepath.IsAbs(o.Cwd) || hasNUL(o.Cwd):
		return needs("an odd working directory")
	}
	p.put(wUID, uint64(o.User.UID))
	p.put(wGID, uint64(o.User.GID))
	groups := list{word: wGroups}
	for _, gid := range o.User.AdditionalGids {
		groups.values = append(groups.values, uint64(gid))
	}
	p.put(wGroupCount, uint64(len(groups.values)))
	limits := list{word: wLimits}
	for _, l := range o.Rlimits {
		kind, known := rlimits[strings.TrimPrefix(l.Type, "RLIMIT_")]
		if !known {
			return needs("the limit " + l.Type)
		}
		limits.values = append(limits.values, kind, l.Soft, l.Hard)
	}
	p.put(wLimitCount, uint64(len(o.Rlimits)))
	p.lists = append(p.lists, groups, limits)
	if o.NoNewPrivileges {
		p.put(wNoNewPrivs, 1)
	}
	if o.OOMScoreAdj != nil {
		p.ref(wOOMScore, strconv.Itoa(*o.OOMScoreAdj))
	}
	p.ref(wDir, o.Cwd)
	if err := p.capabilities(o.Capabilities); err != nil {
		return err
	}
	return p.words(o.Args, o.Env)
}

// profile fills in the AppArmor profile by its name, empty for none, in the kernel's words
// for the one after the next execve: aa_change_onexec(2).
func (p *plan) profile(name string) error {
	switch {
	case hasNUL(name):
		return needs("an odd AppArmor profile")
	case name != "":
		p.ref(wAppArmor, "exec "+name)
	}
	return nil
}

// ref sets a word to a string.
func (p *plan) ref(word int, s string) {
	p.refs[word] = p.str(s)
}

// words fills in arguments and environment, whose last setting of a name counts.
func (p *plan) words(args, env []string) error {
	if slices.ContainsFunc(args, hasNUL) {
		return needs("an argument with a NUL byte")
	}
	p.strings(wArgs, args, 0)
	home, seen, kept := false, map[string]bool{}, make([]string, 0, len(env))
	for _, kv := range slices.Backward(env) {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" || hasNUL(kv) {
			return needs("a malformed variable")
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		switch {
		case name == "PATH":
			p.ref(wPath, value)
		case name == "HOME" && value == "":
			continue // the container's passwd says
		case name == "HOME":
			home = true
		}
		kept = append(kept, kv)
	}
	slices.Reverse(kept)
	spare := 0
	if !home {
		spare = 1
		p.put(wHome, 1)
	}
	p.strings(wEnv, kept, spare)
	return nil
}

func hasNUL(s string) bool { return strings.IndexByte(s, 0) >= 0 }

// strings adds a list that ends with a zero, after spare empty places.
func (p *plan) strings(word int, all []string, spare int) {
	l := list{word: word}
	for _, s := range all {
		l.values, l.refs = append(l.values, p.str(s)), append(l.refs, true)
	}
	for range spare + 1 {
		l.values, l.refs = append(l.values, 0), append(l.refs, false)
	}
	p.lists = append(p.lists, l)
}

// capabilities fills in the five sets.
func (p *plan) capabilities(c *specs.LinuxCapabilities) error {
	for _, set := range []struct {
		word  int
		names []string
	}{{wEffective, c.Effective}, {wPermitted, c.Permitted}, {wInheritable, c.Inheritable}, {wBounding, c.Bounding}, {wAmbient, c.Ambient}} {
		var bits uint64
		for _, name := range set.names {
			i := slices.Index(capabilities, name)
			if i < 0 {
				return needs("the capability " + name)
			}
			bits |= 1 << i
		}
		p.put(set.word, bits)
	}
	return nil
}

// container fills in what the container's launcher told.
func (p *plan) container(f Facts) {
	p.put(wNamespaceCount, uint64(len(f.Namespaces)))
	p.put(wCgroupCount, uint64(len(f.Cgroups)))
	l := list{word: wNamespaces}
	for _, ns := range f.Namespaces {
		l.values, l.refs = append(l.values, ns.Flag, p.str(ns.Path)), append(l.refs, false, true)
	}
	p.lists = append(p.lists, l)
	p.strings(wCgroups, f.Cgroups, 0)
	p.ref(wThawed, f.Thawed)
	for word, text := range map[int]string{wUnified: f.Unified, wFreezer: f.Freezer, wKeyring: f.Keyring} {
		if text != "" {
			p.ref(word, text)
		}
	}
}

// encode lays the parts out.
func (p *plan) encode(filter Filter) []byte {
	const word = 8
	at := uint64(words * word)
	for _, l := range p.lists {
		p.put(l.word, at)
		at += word * uint64(len(l.values))
	}
	p.put(wFilter, at)
	text := at + uint64(len(filter))
	for w, place := range p.refs {
		p.put(w, text+place)
	}
	p.put(wMagic, magic)
	p.put(wSize, text+uint64(len(p.text)))
	out := make([]byte, 0, p.head[wSize])
	for _, v := range p.head {
		out = binary.NativeEndian.AppendUint64(out, v)
	}
	for _, l := range p.lists {
		for i, v := range l.values {
			if i < len(l.refs) && l.refs[i] {
				v += text
			}
			out = binary.NativeEndian.AppendUint64(out, v)
		}
	}
	return append(append(out, filter...), p.text...)
}

// rlimits are the names of resource limits without their prefix.
var rlimits = map[string]uint64{
	"AS": unix.RLIMIT_AS, "CORE": unix.RLIMIT_CORE, "CPU": unix.RLIMIT_CPU, "DATA": unix.RLIMIT_DATA,
	"FSIZE": unix.RLIMIT_FSIZE, "LOCKS": unix.RLIMIT_LOCKS, "MEMLOCK": unix.RLIMIT_MEMLOCK,
	"MSGQUEUE": unix.RLIMIT_MSGQUEUE, "NICE": unix.RLIMIT_NICE, "NOFILE": unix.RLIMIT_NOFILE,
	"NPROC": unix.RLIMIT_NPROC, "RSS": unix.RLIMIT_RSS, "RTPRIO": unix.RLIMIT_RTPRIO,
	"RTTIME": unix.RLIMIT_RTTIME, "SIGPENDING": unix.RLIMIT_SIGPENDING, "STACK": unix.RLIMIT_STACK,
}

// capabilities are their names by number (capabilities(7)). Of a set that names others
// libcontainer knows more.
var capabilities = []string{
	unix.CAP_CHOWN: "CAP_CHOWN", unix.CAP_DAC_OVERRIDE: "CAP_DAC_OVERRIDE", unix.CAP_DAC_READ_SEARCH: "CAP_DAC_READ_SEARCH",
	unix.CAP_FOWNER: "CAP_FOWNER", unix.CAP_FSETID: "CAP_FSETID", unix.CAP_KILL: "CAP_KILL", unix.CAP_SETGID: "CAP_SETGID",
	unix.CAP_SETUID: "CAP_SETUID", unix.CAP_SETPCAP: "CAP_SETPCAP", unix.CAP_LINUX_IMMUTABLE: "CAP_LINUX_IMMUTABLE",
	unix.CAP_NET_BIND_SERVICE: "CAP_NET_BIND_SERVICE", unix.CAP_NET_BROADCAST: "CAP_NET_BROADCAST",
	unix.CAP_NET_ADMIN: "CAP_NET_ADMIN", unix.CAP_NET_RAW: "CAP_NET_RAW", unix.CAP_IPC_LOCK: "CAP_IPC_LOCK",
	unix.CAP_IPC_OWNER: "CAP_IPC_OWNER", unix.CAP_SYS_MODULE: "CAP_SYS_MODULE", unix.CAP_SYS_RAWIO: "CAP_SYS_RAWIO",
	unix.CAP_SYS_CHROOT: "CAP_SYS_CHROOT", unix.CAP_SYS_PTRACE: "CAP_SYS_PTRACE", unix.CAP_SYS_PACCT: "CAP_SYS_PACCT",
	unix.CAP_SYS_ADMIN: "CAP_SYS_ADMIN", unix.CAP_SYS_BOOT: "CAP_SYS_BOOT", unix.CAP_SYS_NICE: "CAP_SYS_NICE",
	unix.CAP_SYS_RESOURCE: "CAP_SYS_RESOURCE", unix.CAP_SYS_TIME: "CAP_SYS_TIME", unix.CAP_SYS_TTY_CONFIG: "CAP_SYS_TTY_CONFIG",
	unix.CAP_MKNOD: "CAP_MKNOD", unix.CAP_LEASE: "CAP_LEASE", unix.CAP_AUDIT_WRITE: "CAP_AUDIT_WRITE",
	unix.CAP_AUDIT_CONTROL: "CAP_AUDIT_CONTROL", unix.CAP_SETFCAP: "CAP_SETFCAP", unix.CAP_MAC_OVERRIDE: "CAP_MAC_OVERRIDE",
	unix.CAP_MAC_ADMIN: "CAP_MAC_ADMIN", unix.CAP_SYSLOG: "CAP_SYSLOG", unix.CAP_WAKE_ALARM: "CAP_WAKE_ALARM",
	unix.CAP_BLOCK_SUSPEND: "CAP_BLOCK_SUSPEND", unix.CAP_AUDIT_READ: "CAP_AUDIT_READ", unix.CAP_PERFMON: "CAP_PERFMON",
	unix.CAP_BPF: "CAP_BPF", unix.CAP_CHECKPOINT_RESTORE: "CAP_CHECKPOINT_RESTORE",
}
