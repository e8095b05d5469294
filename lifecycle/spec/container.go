package spec

import (
	"fmt"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Container describes the container of in. A request that cannot be is
// pod.ErrInvalid; one that this host cannot fulfil is pod.ErrUnsupported, or
// pod.ErrRROUnsupported for recursive read-only mounts.
func Container(in Input) (*specs.Spec, error) {
	b := &builder{Input: in, security: in.Container.GetLinux().GetSecurityContext()}
	b.privileged = b.security.GetPrivileged()
	if err := b.checkInput(); err != nil {
		return nil, err
	}
	b.spec = &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: in.Rootfs, Readonly: b.security.GetReadonlyRootfs()},
		Linux:   &specs.Linux{CgroupsPath: in.CgroupsPath},
	}
	for _, step := range []func() error{
		b.process, b.capabilities, b.namespaces, b.mounts, b.devices, b.resources, b.confinement, b.annotations,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return b.spec, nil
}

// builder holds one specification while its parts are filled in. Each step writes
// its own fields; steps only read what those before them wrote.
type builder struct {
	Input
	security   *runtime.LinuxContainerSecurityContext // may be nil
	privileged bool
	spec       *specs.Spec
}

func (b *builder) checkInput() error {
	if b.Container == nil || b.Sandbox == nil {
		return invalid("config: container and sandbox configuration are both needed")
	}
	if !path.IsAbs(b.Rootfs) || strings.ContainsRune(b.Rootfs, 0) {
		return invalid("rootfs: %.200q is not an absolute path", b.Rootfs)
	}
	if b.privileged && !b.Sandbox.GetLinux().GetSecurityContext().GetPrivileged() {
		return invalid("security_context.privileged: a privileged container needs a sandbox that was asked for as privileged")
	}
	if b.Sources != nil && len(b.Sources) != len(b.Container.GetMounts()) {
		return fmt.Errorf("specify mounts: %d sources for %d mounts", len(b.Sources), len(b.Container.GetMounts()))
	}
	return nil
}

func (b *builder) warn(msg string, args ...any) {
	if b.Warn != nil {
		b.Warn(msg, args...)
	}
}

// invalid is pod.ErrInvalid with one line of text.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", pod.ErrInvalid, fmt.Sprintf(format, args...))
}

// unsupported is pod.ErrUnsupported with one line of text.
func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", pod.ErrUnsupported, fmt.Sprintf(format, args...))
}
