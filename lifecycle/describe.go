package lifecycle

import (
	"context"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/image"
	"github.com/vitrine-runtime/vitrine/lifecycle/cdi"
	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

// describe builds the OCI specification, which needs the image's users.
func (p *plan) describe(context.Context) (err error) {
	c := p.container
	p.input.Rootfs = c.Rootfs
	if c.User, err = resolveUser(c.Rootfs, p.sandbox, c.Config.ContainerConfig, p.image.Config.Config.User); err != nil {
		return err
	}
	p.input.User = c.User
	if err := makeVolumes(c.Rootfs, p.image.Config.Config.Volumes); err != nil {
		return err
	}
	if p.spec, err = spec.Container(p.input); err != nil {
		return err
	}
	p.spec.Hooks = p.manager.host.Hooks(p.spec)
	if p.handler.external() {
		p.forExternal()
	}
	if p.handler.Shim != "" {
		p.forShim()
	}
	return nil
}

// injectDevices edits the specification for the devices that the request names.
func (p *plan) injectDevices(context.Context) error {
	if err := cdi.Inject(p.spec, p.manager.config.CDISpecDirs, p.devices); err != nil {
		return err
	}
	if p.handler.external() && len(p.spec.Linux.NetDevices) > 0 {
		return fmt.Errorf("%w: CDI device brings network devices, which only the native handler is known to move", pod.ErrUnsupported)
	}
	return nil
}

// externalVersion is the version of the specification that is told to external
// runtimes: old ones refuse a newer one than they know, and nothing here needs it.
const externalVersion = "1.0.2"

// crunSubgroup names the cgroup that crun makes below a systemd scope and puts limits and
// processes into ("container" unless it is said, crun(1)). The scope is what CRI's figures,
// updates and OOM verdicts are about.
const crunSubgroup = "run.oci.systemd.subgroup"

// forExternal says the same in the words of older runtimes: runc 1.1 refuses a user
// namespace to join without mappings, which the specification leaves to the namespace.
func (p *plan) forExternal() {
	p.spec.Version = externalVersion
	if p.spec.Annotations == nil {
		p.spec.Annotations = map[string]string{}
	}
	p.spec.Annotations[crunSubgroup] = ""
	rootfs := rootfsRequest(p.sandbox, *p.container)
	for _, m := range rootfs.UIDMaps {
		p.spec.Linux.UIDMappings = append(p.spec.Linux.UIDMappings, specs.LinuxIDMapping(m))
	}
	for _, m := range rootfs.GIDMaps {
		p.spec.Linux.GIDMappings = append(p.spec.Linux.GIDMappings, specs.LinuxIDMapping(m))
	}
}

// rootfsRequest describes the container's root file system; in a pod with its own
// user namespace the files belong to the mapped ids.
func rootfsRequest(sb pod.Sandbox, c pod.Container) image.RootfsRequest {
	request := image.RootfsRequest{ID: string(c.ID), ImageID: c.Image.ID, MountLabel: sb.MountLabel}
	u := namespaceOptions(sb).GetUsernsOptions()
	if userNamespace(sb) == nil {
		return request
	}
	mapped := func(list []*runtime.IDMapping) []image.IDMap {
		var maps []image.IDMap
		for _, m := range list {
			maps = append(maps, image.IDMap{ContainerID: m.GetContainerId(), HostID: m.GetHostId(), Size: m.GetLength()})
		}
		return maps
	}
	request.UIDMaps, request.GIDMaps = mapped(u.GetUids()), mapped(u.GetGids())
	return request
}
