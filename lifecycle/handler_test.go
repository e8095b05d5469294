package lifecycle

import (
	"testing"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
)

func TestHandlersOptionsAreItsOwn(t *testing.T) {
	all := spec.Defaults{Annotations: make([]string, 1, 9)}
	one := Handler{Annotations: []string{"one.*"}, PrivilegedWithoutHostDevices: true}.defaults(all)
	other := Handler{Annotations: []string{"other.*"}}.defaults(all)
	if one.Annotations[1] != "one.*" || !one.PrivilegedWithoutHostDevices || other.Annotations[1] != "other.*" || other.PrivilegedWithoutHostDevices || len(all.Annotations) != 1 {
		t.Errorf("got %+v and %+v", one, other)
	}
}
