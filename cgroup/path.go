package cgroup

import (
	"fmt"
	"path"
	"strings"

	"github.com/vitrine-runtime/vitrine/pod"
)

// scopePrefix begins the name of every container's systemd scope.
const scopePrefix = "vitrine"

// ContainerPath returns the OCI specification's linux.cgroupsPath of a container and
// its path in cgroupfs. parent is CRI's cgroup_parent; empty means DefaultParent.
//
//	driver    cgroupsPath              fsPath
//	cgroupfs  /kubepods/podX/ID        /kubepods/podX/ID
//	systemd   kubepods-podX.slice:vitrine:ID
//	                                   /kubepods.slice/kubepods-podX.slice/vitrine-ID.scope
func (c *Cgroups) ContainerPath(parent, id string) (specPath, fsPath string) {
	if c.Driver() != Systemd {
		fsPath = path.Join(c.PodPath(parent), path.Join("/", id))
		return fsPath, fsPath
	}
	return sliceName(parent) + ":" + scopePrefix + ":" + id, path.Join(c.PodPath(parent), scopePrefix+"-"+id+".scope")
}

// PodPath returns the path in cgroupfs of a pod whose cgroup_parent is parent.
func (c *Cgroups) PodPath(parent string) string {
	if c.Driver() == Systemd {
		return expandSlice(sliceName(parent))
	}
	if parent == "" {
		parent = DefaultParent
	}
	return path.Clean("/" + parent)
}

// sliceName turns a cgroup_parent into the name of a slice. Kubelet with the systemd
// driver sends a path of slices, whose last element is the name; a path in cgroupfs
// syntax becomes one by kubelet's own rule: elements joined by "-", a "-" inside an
// element turned into "_".
func sliceName(parent string) string {
	parent = path.Clean("/" + parent)
	if parent == "/" {
		parent = DefaultParent
	}
	if base := path.Base(parent); strings.HasSuffix(base, ".slice") {
		return base
	}
	elements := strings.Split(strings.TrimPrefix(parent, "/"), "/")
	for i := range elements {
		elements[i] = strings.ReplaceAll(elements[i], "-", "_")
	}
	return strings.Join(elements, "-") + ".slice"
}

// checkSlices refuses a pod's cgroup_parent that no slice can be made for: one in
// cgroupfs syntax below a slice, which kubelet's rule would turn into another slice beside
// that, and the name of no slice.
func checkSlices(parent string) error {
	refused := func(why string) error {
		return fmt.Errorf("%w: cgroup_parent %.200q %s", pod.ErrInvalid, parent, why)
	}
	parent = path.Clean("/" + parent)
	if strings.HasSuffix(parent, ".slice") && !isSlice(path.Base(parent)) {
		return refused("is no name of a slice")
	}
	if !strings.HasSuffix(parent, ".slice") && strings.Contains(parent, ".slice/") {
		return refused("is below a slice and not a slice itself, which the systemd driver needs")
	}
	return nil
}

// isSlice tells whether a name that ends in .slice is one (systemd.slice(5)).
func isSlice(name string) bool {
	stem := strings.TrimSuffix(name, ".slice")
	return stem == "-" || stem != "" && !strings.HasPrefix(stem, "-") && !strings.HasSuffix(stem, "-") && !strings.Contains(stem, "--")
}

// expandSlice returns a slice's path: a-b.slice lies in a.slice (systemd.slice(5)).
func expandSlice(name string) string {
	stem := strings.TrimSuffix(name, ".slice")
	if stem == "-" {
		return "/"
	}
	dir := "/"
	for i := range len(stem) {
		if stem[i] == '-' {
			dir = path.Join(dir, stem[:i]+".slice")
		}
	}
	return path.Join(dir, name)
}

// checkPath refuses what no container or pod can have: the root, and a path that
// the daemon itself is in.
func (c *Cgroups) checkPath(fsPath string) error {
	clean := path.Clean("/" + fsPath)
	if clean == "/" || strings.IndexByte(fsPath, 0) >= 0 {
		return fmt.Errorf("%w: cgroup path %.200q is not one of a container or pod", pod.ErrInvalid, fsPath)
	}
	own, err := ownCgroups()
	if err != nil {
		return err
	}
	for _, p := range own {
		if p == clean || strings.HasPrefix(p, clean+"/") {
			return fmt.Errorf("%w: this process is in cgroup %s itself", pod.ErrInvalid, clean)
		}
	}
	return nil
}
