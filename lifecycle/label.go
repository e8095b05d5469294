package lifecycle

import (
	"cmp"
	"context"
	"fmt"

	"github.com/opencontainers/selinux/go-selinux/label"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// labelSandbox chooses the pod's SELinux labels, where the kernel has them.
func (m *Manager) labelSandbox(sb *pod.Sandbox) (err error) {
	sb.ProcessLabel, sb.MountLabel, err = labels(sb.Config.GetLinux().GetSecurityContext().GetSelinuxOptions())
	return err
}

// labelContainer gives a container that asks for SELinux options of its own the
// labels that follow from them; what it leaves out is the pod's.
func labelContainer(sb *pod.Sandbox, config *runtime.ContainerConfig) (err error) {
	own := config.GetLinux().GetSecurityContext().GetSelinuxOptions()
	of := sb.Config.GetLinux().GetSecurityContext().GetSelinuxOptions()
	if own == nil || proto.Equal(own, of) {
		return nil
	}
	sb.ProcessLabel, sb.MountLabel, err = labels(&runtime.SELinuxOption{
		User: cmp.Or(own.GetUser(), of.GetUser()), Role: cmp.Or(own.GetRole(), of.GetRole()),
		Type: cmp.Or(own.GetType(), of.GetType()), Level: cmp.Or(own.GetLevel(), of.GetLevel()),
	})
	return err
}

func labels(o *runtime.SELinuxOption) (process, mount string, err error) {
	var options []string
	for key, value := range map[string]string{"user": o.GetUser(), "role": o.GetRole(), "type": o.GetType(), "level": o.GetLevel()} {
		if value != "" {
			options = append(options, key+":"+value)
		}
	}
	if process, mount, err = label.InitLabels(options); err != nil {
		return "", "", fmt.Errorf("%w: selinux_options: %w", pod.ErrInvalid, err)
	}
	return process, mount, nil
}

// relabel gives the files of mounts that ask for it the container's label. Where the
// kernel has no SELinux there are no labels and nothing is done.
func (p *plan) relabel(context.Context) error {
	for i, m := range p.container.Config.GetMounts() {
		if !m.GetSelinuxRelabel() || p.sandbox.MountLabel == "" || m.GetImage().GetImage() != "" {
			continue
		}
		if err := label.Relabel(p.input.Sources[i].Path, p.sandbox.MountLabel, false); err != nil {
			return fmt.Errorf("relabel %s for the mount at %s: %w", p.input.Sources[i].Path, m.GetContainerPath(), err)
		}
	}
	return nil
}
