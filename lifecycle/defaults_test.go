package lifecycle

import (
	"reflect"
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
