package cri

import "testing"

func TestVersionsAreSemantic(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.3": "1.2.3", "1.2.3-4-gabcdef012345-dirty": "1.2.3-4-gabcdef012345-dirty", "v1.2.3-rc.1+x": "1.2.3-rc.1+x",
		"9591512e298d-dirty": "0.0.0+9591512e298d-dirty", "1.2": "0.0.0+1.2", "1.2.3.4": "0.0.0+1.2.3.4", "a b_c": "0.0.0+a-b-c", "": "0.0.0+unknown",
	} {
		if got := semantic(version); got != want {
			t.Errorf("%q becomes %q, want %q", version, got, want)
		}
	}
}
