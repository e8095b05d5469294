package host

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
)

func TestContainerDefaultsAreCheckedAtTheStart(t *testing.T) {
	for bad, d := range map[string]ContainerDefaults{
		"FLY":           {Capabilities: []string{"CHOWN", "FLY"}},
		"NOVALUE":       {Env: []string{"NOVALUE"}},
		"fun=1":         {Ulimits: []string{"fun=1"}},
		"nofile=9:1":    {Ulimits: []string{"nofile=9:1"}},
		"nofile":        {Ulimits: []string{"nofile"}},
		"nofile=a:b":    {Ulimits: []string{"nofile=a:b"}},
		"nofile=1:2:3":  {Ulimits: []string{"nofile=1:2:3"}},
		"nofile=-2:100": {Ulimits: []string{"nofile=-2:100"}},
		"/a":            {Mounts: []string{"/a"}},
		"a:/b":          {Mounts: []string{"a:/b"}},
		"/etc:/":        {Mounts: []string{"/etc:/"}},
		"/etc:/e:rx":    {Mounts: []string{"/etc:/e:rx"}},
		"/no/such:/e":   {Mounts: []string{"/no/such:/e"}},
		"null":          {Devices: []string{"null"}},
		"/dev/null::rr": {Devices: []string{"/dev/null::rr"}},
		"/etc/passwd":   {Devices: []string{"/etc/passwd"}},
		"/dev/no-such":  {Devices: []string{"/dev/no-such:/dev/x"}},
	} {
		if err := d.apply(&spec.Defaults{}); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%+v: %v, want an error that names %s", d, err, bad)
		}
	}
	var got spec.Defaults
	d := ContainerDefaults{Capabilities: []string{"chown", "CAP_KILL"}, Env: []string{"A=b"}, Ulimits: []string{"nofile=10:-1", "core=0"}, PidsLimit: 7}
	if err := d.apply(&got); err != nil {
		t.Fatal(err)
	}
	want := []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 10, Hard: ^uint64(0)}, {Type: "RLIMIT_CORE"}}
	if !reflect.DeepEqual(got.Rlimits, want) || got.PidsLimit != 7 || len(got.Env) != 1 || len(got.Capabilities) != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestDefaultMountsAndDevicesAreLookedUp(t *testing.T) {
	var got spec.Defaults
	d := ContainerDefaults{Mounts: []string{"/etc:/host/etc/", "/usr:/u:rw"}, Devices: []string{"/dev/null", "/dev/zero:/dev/nothing:r"}}
	if err := d.apply(&got); err != nil {
		t.Fatal(err)
	}
	if m := got.Mounts; len(m) != 2 || m[0].Source != "/etc" || m[0].Destination != "/host/etc" || !slices.Contains(m[0].Options, "ro") || !slices.Contains(m[1].Options, "rw") {
		t.Errorf("mounts %+v", m)
	}
	if v := got.Devices; len(v) != 2 || v[0].Path != "/dev/null" || v[0].Access != "rwm" || v[1].Path != "/dev/nothing" || v[1].Minor != 5 || v[1].Access != "r" {
		t.Errorf("devices %+v", v)
	}
}
