package telemetry

import "testing"

func TestScrubLeavesTheAddressAndTakesTheSecret(t *testing.T) {
	for text, want := range map[string]string{
		`Get "https://me:pw@cdn.example:8443/blob/x?X-Amz-Signature=abc&t=1": EOF`: `Get "https://cdn.example:8443/blob/x": EOF`,
		"GET http://registry/v2/ and https://b?sig=1#frag":                         "GET http://registry/v2/ and https://b#frag",
		"Authorization: Bearer abcdefghij.k-l":                                     "Authorization: Bearer ***",
		"authorization=basic bWU6cHc9c2VjcmV0":                                     "authorization=basic ***",
		"user@host and a?b are text; a basic thing stays":                          "user@host and a?b are text; a basic thing stays",
		"docker://[::1]:5000/a/b@sha256:00":                                        "docker://[::1]:5000/a/b@sha256:00",
	} {
		if got := scrub(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
