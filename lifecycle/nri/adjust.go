package nri

import (
	"fmt"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/runtime-tools/generate"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/pod"
)

// apply edits the specification as plugins have asked. What this runtime cannot do is
// pod.ErrUnsupported; the specification is spoilt by an error and must not be used.
func (p *Plugins) apply(s *specs.Spec, adjust *adaptation.ContainerAdjustment) error {
	if adjust == nil {
		return nil
	}
	if path := adjust.GetLinux().GetCgroupsPath(); path != "" && path != s.Linux.CgroupsPath {
		return fmt.Errorf("%w: a plugin's cgroups_path %q: the container's cgroup is the runtime's to choose", pod.ErrUnsupported, path)
	}
	swap := s.Linux.Resources.Memory != nil && s.Linux.Resources.Memory.Swap != nil
	refuse := func(what string) error { return fmt.Errorf("%w: a plugin's %s", pod.ErrUnsupported, what) }
	g := generate.SpecGenerator(&editor{spec: s},
		generate.WithCDIDeviceInjector(p.inject),
		generate.WithBlockIOResolver(func(class string) (*specs.LinuxBlockIO, error) { return nil, refuse("blockio class " + class) }),
		generate.WithRdtResolver(func(class string) (*specs.LinuxIntelRdt, error) { return nil, refuse("RDT class " + class) }),
		generate.WithResourceChecker(func(r *specs.LinuxResources) error {
			if r.Memory != nil && !swap { // set beside the limit even where swap cannot be limited
				r.Memory.Swap = nil
			}
			return nil
		}),
	)
	if err := g.Adjust(adjust); err != nil {
		return fmt.Errorf("apply plugins' adjustments: %w", err)
	}
	s.Process.Rlimits = lastOfEach(s.Process.Rlimits)
	return nil
}

// lastOfEach keeps the last limit of each type: adjustments are appended.
func lastOfEach(limits []specs.POSIXRlimit) []specs.POSIXRlimit {
	at := map[string]int{}
	var kept []specs.POSIXRlimit
	for _, l := range limits {
		if i, ok := at[l.Type]; ok {
			kept[i] = l
			continue
		}
		at[l.Type] = len(kept)
		kept = append(kept, l)
	}
	return kept
}
