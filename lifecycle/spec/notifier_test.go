package spec_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/pod"
)

func TestNotifierIsWhatAllowedAnnotationsSay(t *testing.T) {
	const key = "io.vitrine.seccomp.notifier"
	for _, tc := range []struct {
		name        string
		allowed     []string
		annotations map[string]string
		want        string
		err         error
	}{
		{"nothing", []string{"*"}, nil, "", nil},
		{"log", []string{key}, map[string]string{key: "log"}, "log", nil},
		{"not allowed", nil, map[string]string{key: "log"}, "", nil},
		{"this container's goes first", []string{key + "*"}, map[string]string{key: "log", key + "/c": "kill"}, "kill", nil},
		{"another's", []string{key}, map[string]string{key + "/other": "kill"}, "", nil},
		{"off again", []string{key}, map[string]string{key: "kill", key + "/c": "off"}, "", nil},
		{"no such", []string{key}, map[string]string{key: "stop"}, "", pod.ErrInvalid},
	} {
		if got, err := spec.Notifier(tc.allowed, "c", tc.annotations); got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: %q, %v, want %q, %v", tc.name, got, err, tc.want, tc.err)
		}
	}
}

func TestNotifyAsksForWhatIsRefusedWithEPERM(t *testing.T) {
	eperm, enosys := uint(1), uint(38)
	f := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"read", "openat"}, Action: specs.ActAllow},
		{Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Value: 0, Op: specs.OpEqualTo}}},
		{Names: []string{"mount"}, Action: specs.ActErrno, ErrnoRet: &eperm},
		{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &enosys},
		{Names: []string{"reboot"}, Action: specs.ActKillProcess},
	}}
	asks, err := spec.Notify(f, []string{"read", "write", "openat", "personality", "mount", "clone3", "reboot", "mkdir", "bpf"}, "/run/notify")
	if err != nil || !asks || f.ListenerPath != "/run/notify" {
		t.Fatalf("%v, %v, %q", asks, err, f.ListenerPath)
	}
	var asked []string
	for _, rule := range f.Syscalls {
		if rule.Action == specs.ActNotify {
			asked = append(asked, rule.Names...)
		}
	}
	if slices.Sort(asked); !reflect.DeepEqual(asked, []string{"bpf", "mkdir", "mount"}) {
		t.Errorf("asked are %q", asked)
	}

	nothing := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"reboot"}, Action: specs.ActKill}}}
	if asks, err := spec.Notify(nothing, []string{"read"}, "/run/notify"); asks || err != nil || nothing.ListenerPath != "" {
		t.Errorf("nothing to ask: %v, %v", asks, err)
	}
	for name, tc := range map[string]struct {
		filter *specs.LinuxSeccomp
		socket string
		err    error
	}{
		"a listener of its own": {&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/x"}, "/s", pod.ErrInvalid},
		"default":               {&specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, "/s", pod.ErrInvalid},
		"a long path":           {&specs.LinuxSeccomp{DefaultAction: specs.ActErrno}, "/" + strings.Repeat("s", 107), pod.ErrUnsupported},
	} {
		if _, err := spec.Notify(tc.filter, nil, tc.socket); !errors.Is(err, tc.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asks, err := spec.Notify(nil, nil, "/s"); asks || err != nil {
		t.Errorf("without a filter: %v, %v", asks, err)
	}
}
