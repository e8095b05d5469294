package checkpoint

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/pod"
)

// SameProcess refuses, as pod.ErrInvalid, a specification of another process, or another
// confinement, than the one that was written down: criu restores what was. What archives say of
// themselves may be a lie; Confined looks at what came of it.
func (s *Snapshot) SameProcess(asked *specs.Spec) error {
	was := s.spec
	raw, err := json.Marshal(asked) // as the other one: what is empty is left out
	if err != nil {
		return err
	}
	var want specs.Spec
	if err := json.Unmarshal(raw, &want); err != nil {
		return err
	}
	for _, c := range []struct {
		what      string
		was, want any
	}{
		{"command", was.Process.Args, want.Process.Args},
		{"working directory", was.Process.Cwd, want.Process.Cwd},
		{"environment", environment(was), environment(want)},
		{"user", was.Process.User, want.Process.User},
		{"capabilities", was.Process.Capabilities, want.Process.Capabilities},
		{"no_new_privs", was.Process.NoNewPrivileges, want.Process.NoNewPrivileges},
		{"AppArmor profile", was.Process.ApparmorProfile, want.Process.ApparmorProfile},
		{"terminal", was.Process.Terminal, want.Process.Terminal},
		{"read-only root file system", was.Root.Readonly, want.Root.Readonly},
		{"masked paths", was.Linux.MaskedPaths, want.Linux.MaskedPaths},
		{"read-only paths", was.Linux.ReadonlyPaths, want.Linux.ReadonlyPaths},
		{"seccomp profile", was.Linux.Seccomp, want.Linux.Seccomp},
		{"mounts", mountPoints(was.Mounts), mountPoints(want.Mounts)},
	} {
		if !reflect.DeepEqual(c.was, c.want) {
			return fmt.Errorf("%w: the request's %s is not the checkpoint's", pod.ErrInvalid, c.what)
		}
	}
	return nil
}

// environment is sorted, without what the pod's name decides.
func environment(s specs.Spec) []string {
	env := slices.DeleteFunc(slices.Clone(s.Process.Env), func(kv string) bool { return strings.HasPrefix(kv, "HOSTNAME=") })
	slices.Sort(env)
	return env
}

// mountPoints are places and what is mounted there, without the host's sources.
func mountPoints(mounts []specs.Mount) []string {
	var points []string
	for _, m := range mounts {
		access := "rw"
		if slices.Contains(m.Options, "ro") || slices.Contains(m.Options, "rro") {
			access = "ro"
		}
		points = append(points, m.Destination+" "+m.Type+" "+access)
	}
	slices.Sort(points)
	return points
}
