package spec

import (
	"errors"
	"testing"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestDenialsAreWatchedByAllowedAnnotation(t *testing.T) {
	all := []string{"io.vitrine.*"}
	for _, c := range []struct {
		name    string
		allowed []string
		given   map[string]string
		want    bool
		err     error
	}{
		{"not given", all, nil, false, nil},
		{"not allowed", nil, map[string]string{denialsAnnotation: "true"}, false, nil},
		{"pod's", all, map[string]string{denialsAnnotation: "true"}, true, nil},
		{"container's own", all, map[string]string{denialsAnnotation: "true", denialsAnnotation + "/app": "false"}, false, nil},
		{"another's", all, map[string]string{denialsAnnotation + "/db": "true"}, false, nil},
		{"no truth", all, map[string]string{denialsAnnotation: "maybe"}, false, pod.ErrInvalid},
	} {
		got, err := WatchDenials(c.allowed, "app", c.given)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}
