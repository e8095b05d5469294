package enter

import (
	"errors"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A Birth is what vitrine-enter needs to make a container's init where that needs no
// libcontainer. Whoever fills it in has decided that each part of the container's
// configuration is in it or in the process; cmd/vitrine-enter/birth.h does it in order.
type Birth struct {
	// Facts are what later exec sessions join. Of them Namespaces are joined here, too;
	// Cgroups and Unified are where the init puts itself, unless Wait; Keyring is made.
	Facts
	// Fresh are the CLONE_NEW flags of namespaces that are made. That of the cgroup is
	// OwnCgroups, because it must be made after the init has come into its cgroup.
	Fresh      uint64
	OwnCgroups bool
	// Wait makes the init wait for a first byte: it is put into its cgroup by then.
	Wait bool
	// Loopback has the new network namespace's lo brought up.
	Loopback bool
	// Bare is a mount namespace with /proc and next to nothing else in it, from which the new one
	// is copied; empty for the caller's own, in which sources are looked up anyway. It is for
	// a Propagation with MS_REC.
	Bare string
	// Root is the host's path of the root file system, absolute and clean.
	Root string
	// Propagation is what mount(2) makes of all of the host's mounts in the new namespace,
	// MountPropagation what it makes of the mount that Root is on.
	Propagation, MountPropagation uint64
	// Ops furnish the root, in this order. The first one mounts a procfs at /proc.
	Ops []Op
	// OwnDev: /dev is not the host's. Standard streams from /dev/null become its own.
	OwnDev bool
	// ReadOnlyRoot makes the root's own mount read-only.
	ReadOnlyRoot bool
	// Hostname and Domainname are set where they are not empty.
	Hostname, Domainname string
	// Sysctls are files below /proc and what is written to them, in order.
	Sysctls [][2]string
	// ReadOnlyPaths become read-only, MaskedPaths are covered, where they exist. No path
	// is twice in the latter.
	ReadOnlyPaths, MaskedPaths []string
}

// An Op is one thing that is made in the root file system.
type Op struct {
	Kind OpKind
	// Path is where, absolute and clean.
	Path string
	// Source and Type are mount(2)'s; Source is a symbolic link's text as well.
	Source, Type string
	// Data are a file system's options, KEY=VALUE or KEY between commas.
	Data  string
	Flags uint64 // Op…
	// Set and Clear are those of mount_setattr(2), for a new file system Set those of
	// fsmount(2); mode with type, and device of a node.
	Set, Clear uint64
	// Propagation is one of MS_PRIVATE, MS_SLAVE and MS_UNBINDABLE, with or without MS_REC;
	// of a node its owner, the group in the upper half.
	Propagation uint64
	// RecSet and RecClear are Set and Clear for all that is mounted below, too.
	RecSet, RecClear uint64
}

// OpKind says what an Op makes.
type OpKind uint64

// The kinds.
const (
	OpMount  OpKind = 1 + iota // a new file system
	OpBind                     // a part of the host's
	OpNode                     // a device; one that is there is left as it is
	OpLink                     // a symbolic link; one that is there is left, unless OpMust
	OpUnlink                   // nothing, where something may be
)

// The flags of an Op.
const (
	OpReadOnlySuper = 1 << iota // OpMount: the file system itself is read-only
	OpPlain                     // no symbolic link may lead to Path
	OpMode                      // OpMount: a directory that is there gives the file system its mode
	OpLateReadOnly              // OpMount: becomes read-only when all else is made
	OpRecursive                 // OpBind: with what is mounted below Source
	OpAttributes                // OpBind: Set and Clear count

	OpMust = 1 // OpLink
)

// The bits of the plan's word for births; birth.h, BIRTH_.
const (
	birthCgroup = 1 << iota
	birthWait
	birthLoopback
	birthReadOnlyRoot
	birthOwnDev
	birthAny
)

// maxOps bounds what is made in one root file system.
const maxOps = 20000

// NewInit is the plan by which vitrine-enter makes a container's init that becomes process.
// An error that wraps ErrNeedsLibcontainer leaves the container to that.
func NewInit(b Birth, filter Filter, process *specs.Process) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	p := plan{head: make([]uint64, words), refs: map[int]uint64{}}
	if err := errors.Join(p.process(process), p.profile(process.ApparmorProfile)); err != nil {
		return nil, err
	}
	if path.Clean(process.Cwd) != process.Cwd {
		return nil, needs("an odd working directory")
	}
	p.put(wFilterCount, uint64(len(filter)/instruction))
	p.put(wFilterFlags, b.FilterFlags)
	p.container(b.Facts)
	p.birth(&b)
	return p.encode(filter), nil
}

// check refuses what birth.h does not expect.
func (b *Birth) check() error {
	switch {
	case !cleanPath(b.Root) || b.Root == "/":
		return needs("an odd root")
	case len(b.Ops) == 0 || b.Ops[0].Kind != OpMount || b.Ops[0].Type != "proc" || b.Ops[0].Path != "/proc":
		return needs("a container whose first mount is not its procfs")
	case len(b.Ops) > maxOps:
		return needs("more mounts than are usual")
	case b.Bare != "" && (b.Propagation&unix.MS_REC == 0 || !cleanPath(b.Bare)):
		return needs("an odd way out of the host's mounts")
	case hasNUL(b.Hostname) || hasNUL(b.Domainname):
		return needs("an odd name")
	}
	for _, op := range b.Ops {
		if !cleanPath(op.Path) || op.Path == "/" || hasNUL(op.Source) || hasNUL(op.Data) {
			return needs("an odd path to mount at")
		}
	}
	for _, p := range append(append([]string(nil), b.ReadOnlyPaths...), b.MaskedPaths...) {
		if !cleanPath(p) || p == "/" {
			return needs("an odd path to cover")
		}
	}
	for _, s := range b.Sysctls {
		if hasNUL(s[0]) || hasNUL(s[1]) || !strings.HasPrefix(s[0], "sys/") || path.Clean(s[0]) != s[0] {
			return needs("an odd sysctl")
		}
	}
	return nil
}

func cleanPath(p string) bool { return path.IsAbs(p) && path.Clean(p) == p && !hasNUL(p) }

// birth fills in what an exec session's plan does not have.
func (p *plan) birth(b *Birth) {
	flags := uint64(birthAny)
	for bit, set := range map[uint64]bool{birthCgroup: b.OwnCgroups, birthWait: b.Wait, birthLoopback: b.Loopback,
		birthReadOnlyRoot: b.ReadOnlyRoot, birthOwnDev: b.OwnDev} {
		if set {
			flags |= bit
		}
	}
	p.put(wBirth, flags)
	p.put(wFresh, b.Fresh)
	p.ref(wRoot, b.Root)
	p.put(wPropagation, b.Propagation)
	p.put(wMountPropagation, b.MountPropagation)
	ops := list{word: wOps}
	for _, op := range b.Ops {
		ops.values = append(ops.values, uint64(op.Kind), p.str(op.Path), p.str(op.Source), p.str(op.Type), p.str(op.Data),
			op.Flags, op.Set, op.Clear, op.Propagation, op.RecSet, op.RecClear)
		ops.refs = append(ops.refs, false, true, true, true, true, false, false, false, false, false, false)
	}
	p.put(wOpCount, uint64(len(b.Ops)))
	sysctls := list{word: wSysctls}
	for _, s := range b.Sysctls {
		sysctls.values, sysctls.refs = append(sysctls.values, p.str(s[0]), p.str(s[1])), append(sysctls.refs, true, true)
	}
	p.put(wSysctlCount, uint64(len(b.Sysctls)))
	p.lists = append(p.lists, ops, sysctls)
	for word, text := range map[int]string{wHostname: b.Hostname, wDomainname: b.Domainname, wBare: b.Bare} {
		if text != "" {
			p.ref(word, text)
		}
	}
	p.strings(wReadOnly, b.ReadOnlyPaths, 0)
	p.strings(wMasked, b.MaskedPaths, 0)
}
