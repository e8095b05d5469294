package lifecycle

import (
	"fmt"

	"github.com/opencontainers/selinux/go-selinux/label"

	"github.com/vitrine-runtime/vitrine/pod"
)

// labelSandbox chooses the pod's SELinux labels, where the kernel has them.
func (m *Manager) labelSandbox(sb *pod.Sandbox) (err error) {
	o := sb.Config.GetLinux().GetSecurityContext().GetSelinuxOptions()
	var options []string
	for key, value := range map[string]string{"user": o.GetUser(), "role": o.GetRole(), "type": o.GetType(), "level": o.GetLevel()} {
		if value != "" {
			options = append(options, key+":"+value)
		}
	}
	if sb.ProcessLabel, sb.MountLabel, err = label.InitLabels(options); err != nil {
		return fmt.Errorf("%w: selinux_options: %w", pod.ErrInvalid, err)
	}
	return nil
}
