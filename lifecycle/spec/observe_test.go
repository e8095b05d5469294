package spec

import (
	"errors"
	"testing"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestObservationIsAskedForByAllowedAnnotation(t *testing.T) {
	all := []string{"io.vitrine.*"}
	denials := ObserveOptions{Denials: true}
	for _, c := range []struct {
		name    string
		from    ObserveOptions
		allowed []string
		given   map[string]string
		want    ObserveOptions
		err     error
	}{
		{"not given", ObserveOptions{}, all, nil, ObserveOptions{}, nil},
		{"not allowed", ObserveOptions{}, nil, map[string]string{"io.vitrine.denials": "true"}, ObserveOptions{}, nil},
		{"pod's", ObserveOptions{}, all, map[string]string{"io.vitrine.denials": "true"}, denials, nil},
		{"container's own", ObserveOptions{}, all, map[string]string{"io.vitrine.denials": "true", "io.vitrine.denials/app": "false"}, ObserveOptions{}, nil},
		{"another's", ObserveOptions{}, all, map[string]string{"io.vitrine.denials/db": "true"}, ObserveOptions{}, nil},
		{"administrator's", denials, all, nil, denials, nil},
		{"against the administrator's", denials, all, map[string]string{"io.vitrine.denials": "false", "io.vitrine.syscalls": "counts"}, ObserveOptions{Syscalls: "counts"}, nil},
		{"not allowed against the administrator's", denials, []string{"io.vitrine.flight"}, map[string]string{"io.vitrine.denials": "false", "io.vitrine.flight": "true"}, ObserveOptions{Denials: true, Flight: true}, nil},
		{"everything", ObserveOptions{}, all, map[string]string{"io.vitrine.syscalls": "latency", "io.vitrine.learn/app": "true", "io.vitrine.flight": "1", "io.vitrine.accept": "t"},
			ObserveOptions{Syscalls: "latency", Learn: true, Flight: true, Accept: true}, nil},
		{"no truth", ObserveOptions{}, all, map[string]string{"io.vitrine.learn": "maybe"}, ObserveOptions{}, pod.ErrInvalid},
		{"no way", ObserveOptions{}, all, map[string]string{"io.vitrine.syscalls": "true"}, ObserveOptions{Syscalls: "true"}, pod.ErrInvalid},
	} {
		got, err := Observe(c.from, c.allowed, "app", c.given)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		if err == nil && got.Any() != (got != ObserveOptions{}) {
			t.Errorf("%s: Any is %v of %+v", c.name, got.Any(), got)
		}
	}
}
