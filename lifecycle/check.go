package lifecycle

import (
	"fmt"
	"path/filepath"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/lifecycle/checkpoint"
	"github.com/vitrine-runtime/vitrine/lifecycle/host"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Check refuses settings that cannot work on any host, as pod.ErrInvalid, naming the
// setting. What only the host can tell, New finds out.
func (c Config) Check() error {
	if err := c.Log.Check(); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if err := c.Observe.Check(); err != nil {
		return fmt.Errorf("observe: %w", err)
	}
	if _, err := c.handler(c.DefaultHandler); err != nil {
		return fmt.Errorf("default_handler: %w", err)
	}
	if p := c.CriuPath; p != "" && (!filepath.IsAbs(p) || filepath.Base(p) != "criu") {
		return fmt.Errorf("%w: criu_path %q is no absolute path of a program named criu, the name by which runtimes look for it", pod.ErrInvalid, p)
	}
	for name, h := range c.Handlers {
		if err := h.check(); err != nil {
			return fmt.Errorf("handlers.%s: %w", name, err)
		}
	}
	if c.SpareMonitors > maxSpares {
		return fmt.Errorf("%w: spare_monitors is %d, at most %d", pod.ErrInvalid, c.SpareMonitors, maxSpares)
	}
	if p := c.MonitorCgroup; p != "" && p != forPods {
		if err := cgroup.CheckParent(p); err != nil {
			return fmt.Errorf("monitor_cgroup, which is empty, %q, a slice or an absolute path: %w", forPods, err)
		}
	}
	return nil
}

// Features asks the kernel, and criu of the configuration; it changes nothing.
func Features(config Config) []host.Feature {
	return append(host.Features(), checkpoint.Feature(config.CriuPath))
}
