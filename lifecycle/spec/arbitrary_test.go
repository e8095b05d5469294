package spec

import (
	"encoding/json"
	"errors"
	"path"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/arbitrary"
)

// FuzzContainer: whatever the requests say, there is a refusal that names its kind, or a
// specification that gives the container no more than a request can ask for.
func FuzzContainer(f *testing.F) {
	for seed := range byte(64) {
		f.Add([]byte{seed, 1, seed * 7, 3, 5 * seed, 7, 11, seed, 13, 17, seed, 19, 23, 3 * seed, 29, 31, 37}, seed)
	}
	f.Fuzz(func(t *testing.T, choices []byte, times byte) {
		in := input()
		m := arbitrary.FromBytes(choices)
		m.Disturb(in.Container, int(times)%16)
		m.Disturb(in.Sandbox, int(times)%5)
		in.Host.CgroupV2 = times&1 != 0
		s, err := Container(in)
		if err != nil {
			if !errors.Is(err, pod.ErrInvalid) && !errors.Is(err, pod.ErrUnsupported) && !errors.Is(err, pod.ErrRROUnsupported) {
				t.Fatalf("the refusal has no kind: %v", err)
			}
			return
		}
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back specs.Spec
		if err := json.Unmarshal(raw, &back); err != nil || !slices.Equal(back.Process.Args, s.Process.Args) || !slices.Equal(back.Process.Env, s.Process.Env) {
			t.Fatalf("the specification is not what its file says: %v\n%s", err, raw)
		}
		privileged := in.Container.GetLinux().GetSecurityContext().GetPrivileged()
		if privileged && !in.Sandbox.GetLinux().GetSecurityContext().GetPrivileged() {
			t.Fatal("a privileged container in a pod that is not")
		}
		for _, mount := range s.Mounts {
			if !path.IsAbs(mount.Destination) || path.Clean(mount.Destination) != mount.Destination || mount.Destination == "/" {
				t.Fatalf("a mount at %q", mount.Destination)
			}
			if mount.Type == "sysfs" && !privileged && !slices.Contains(mount.Options, "ro") {
				t.Fatalf("sysfs is writable: %v", mount.Options)
			}
		}
		if rules := s.Linux.Resources.Devices; len(rules) == 0 || rules[0].Allow != privileged {
			t.Fatalf("rules for devices: %+v", rules)
		}
		if throughDescriptor(s.Process.Cwd) || !path.IsAbs(s.Process.Cwd) {
			t.Fatalf("working directory %q", s.Process.Cwd)
		}
		for key := range s.Linux.Resources.Unified {
			if path.Base(key) != key || key[:2] == "cg" {
				t.Fatalf("cgroup file %q", key)
			}
		}
	})
}

// FuzzSandbox: a sandbox that is not refused has a host name that the kernel takes, and
// parameters of its own namespaces alone.
func FuzzSandbox(f *testing.F) {
	for seed := range byte(32) {
		f.Add([]byte{seed, 0, 3, seed, 2, seed, 7, seed, 9}, seed)
	}
	f.Fuzz(func(t *testing.T, choices []byte, times byte) {
		config := input().Sandbox
		m := arbitrary.FromBytes(choices)
		m.Words = map[string][]string{"sysctls.key": {"net.ipv4.ip_forward", "net/ipv4/conf/eth0.1/forwarding", "kernel.shmmax", "kernel.core_pattern", "vm.swappiness", "net..x", "fs.mqueue.msg_max"}}
		m.Disturb(config, int(times)%16)
		if err := ValidateSandbox(config); err != nil {
			if !errors.Is(err, pod.ErrInvalid) {
				t.Fatalf("the refusal has no kind: %v", err)
			}
			return
		}
		if name := config.GetHostname(); name != "" && ValidateHostname(name) != nil {
			t.Fatalf("host name %q", name)
		}
		settings, err := Sysctls(config, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name := range settings {
			if file := swapSeparators(name); path.Clean("/"+file) != "/"+file {
				t.Fatalf("parameter %q is %q", name, file)
			}
		}
	})
}
