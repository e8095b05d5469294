package cdi

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

const vendor = `{
  "cdiVersion": "0.6.0", "kind": "vendor.example/gpu",
  "containerEdits": {"env": ["DRIVER=1"]},
  "devices": [{"name": "zero", "containerEdits": {
    "env": ["GPU=zero"],
    "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw"}],
    "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/gpu/name", "options": ["ro", "bind"]}],
    "hooks": [{"hookName": "createContainer", "path": "/usr/bin/true"}]
  }}, {"name": "absent", "containerEdits": {"deviceNodes": [{"path": "/dev/no-such-gpu"}]}}]
}`

func specDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRequestedCollectsFieldAndOwnAnnotationsOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		config *runtime.ContainerConfig
		want   []string
		bad    string
	}{
		"nothing": {config: &runtime.ContainerConfig{Annotations: map[string]string{"a": "b"}}},
		"field before annotations, each once": {config: &runtime.ContainerConfig{
			CDIDevices:  []*runtime.CDIDevice{{Name: "v.com/c=b"}, {Name: "v.com/c=a"}},
			Annotations: map[string]string{"cdi.k8s.io/z": "v.com/c=d", "cdi.k8s.io/a": "v.com/c=c,v.com/c=b"},
		}, want: []string{"v.com/c=b", "v.com/c=a", "v.com/c=c", "v.com/c=d"}},
		"unqualified in the field":      {config: &runtime.ContainerConfig{CDIDevices: []*runtime.CDIDevice{{Name: "gpu0"}}}, bad: `CDI_devices: "gpu0"`},
		"unqualified in the annotation": {config: &runtime.ContainerConfig{Annotations: map[string]string{"cdi.k8s.io/x": "v.com/c=a,../b"}}, bad: `cdi.k8s.io/x: "../b"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Requested(tc.config)
			if tc.bad != "" {
				if !errors.Is(err, pod.ErrInvalid) || !strings.Contains(err.Error(), tc.bad) {
					t.Fatalf("got %v, want invalid with %q", err, tc.bad)
				}
				return
			}
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("got %v, %v, want %v", got, err, tc.want)
			}
		})
	}
	many := &runtime.ContainerConfig{}
	for i := range maxDevices + 1 {
		many.CDIDevices = append(many.CDIDevices, &runtime.CDIDevice{Name: "v.com/c=d" + string(rune('a'+i%26)) + strings.Repeat("x", i/26)})
	}
	if _, err := Requested(many); !errors.Is(err, pod.ErrInvalid) {
		t.Errorf("%d devices: %v", maxDevices+1, err)
	}
}

func TestInjectAppliesWhatTheFileSays(t *testing.T) {
	dir := specDir(t, map[string]string{"vendor.json": vendor})
	s := &specs.Spec{Process: &specs.Process{Env: []string{"PATH=/bin"}}, Linux: &specs.Linux{}}
	if err := Inject(s, []string{dir}, []string{"vendor.example/gpu=zero"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"PATH=/bin", "DRIVER=1", "GPU=zero"}; !slices.Equal(s.Process.Env, want) {
		t.Errorf("environment %v, want %v", s.Process.Env, want)
	}
	if len(s.Mounts) != 1 || s.Mounts[0].Destination != "/gpu/name" {
		t.Errorf("mounts %v", s.Mounts)
	}
	if d := s.Linux.Devices; len(d) != 1 || d[0].Path != "/dev/gpu0" || d[0].Major != 1 || d[0].Minor != 3 {
		t.Errorf("devices %+v, want /dev/gpu0 as the host's 1:3", d)
	}
	if r := s.Linux.Resources; r == nil || len(r.Devices) != 1 || !r.Devices[0].Allow || r.Devices[0].Access != "rw" {
		t.Errorf("the device cgroup was not told: %+v", r)
	}
	if s.Hooks == nil || len(s.Hooks.CreateContainer) != 1 {
		t.Errorf("hooks %+v", s.Hooks)
	}
}

func TestInjectSaysWhyADeviceCannotBeHad(t *testing.T) {
	for name, tc := range map[string]struct {
		files  map[string]string
		device string
		want   []string
	}{
		"no file":             {nil, "vendor.example/gpu=zero", []string{"vendor.example/gpu=zero is not declared in"}},
		"another name":        {map[string]string{"vendor.json": vendor}, "vendor.example/gpu=seven", []string{"gpu=seven is not declared"}},
		"a broken file":       {map[string]string{"broken.json": "{"}, "vendor.example/gpu=zero", []string{"gpu=zero is not declared", "broken.json is not usable"}},
		"two files":           {map[string]string{"a.json": vendor, "b.json": vendor}, "vendor.example/gpu=zero", []string{"gpu=zero is not declared", "conflicting device"}},
		"no node on the host": {map[string]string{"vendor.json": vendor}, "vendor.example/gpu=absent", []string{"gpu=absent", "/dev/no-such-gpu"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := specDir(t, tc.files)
			err := Inject(&specs.Spec{Linux: &specs.Linux{}}, []string{dir}, []string{tc.device})
			if !errors.Is(err, pod.ErrUnavailable) {
				t.Fatalf("got %v, want unavailable", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestALaterDirectoryWins(t *testing.T) {
	low := specDir(t, map[string]string{"v.json": vendor})
	high := specDir(t, map[string]string{"v.json": strings.ReplaceAll(vendor, "GPU=zero", "GPU=other")})
	s := &specs.Spec{Linux: &specs.Linux{}}
	if err := Inject(s, []string{low, high}, []string{"vendor.example/gpu=zero"}); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(s.Process.Env, "GPU=other") || slices.Contains(s.Process.Env, "GPU=zero") {
		t.Errorf("environment %v", s.Process.Env)
	}
}
