package spec

import (
	"errors"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestLogAnnotationsLieOverTheDefaultsWhereAllowed(t *testing.T) {
	defaults := LogOptions{Policy: "drop", Rate: 1000}
	allowed := []string{"io.vitrine.log.*"}
	for _, c := range []struct {
		name        string
		allowed     []string
		annotations map[string]string
		want        LogOptions
	}{
		{"none", allowed, nil, defaults},
		{"not allowed", nil, map[string]string{"io.vitrine.log.policy": "none"}, defaults},
		{"another one is allowed", []string{"io.vitrine.log.rate"}, map[string]string{"io.vitrine.log.policy": "none", "io.vitrine.log.rate": "64Ki"},
			LogOptions{Policy: "drop", Rate: 65536}},
		{"not allowed and wrong", nil, map[string]string{"io.vitrine.log.rate": "much"}, defaults},
		{"all", allowed, map[string]string{"io.vitrine.log.policy": "sample", "io.vitrine.log.rate": "2M", "io.vitrine.log.burst": "1Gi",
			"io.vitrine.log.sample": "7", "io.vitrine.log.pause-ms": "50", "io.vitrine.log.stall-ms": "250", "io.vitrine.log.otlp": "true", "io.vitrine.log.journald": "1"},
			LogOptions{"sample", 2000000, 1 << 30, 7, 50, true, true, 250}},
		{"this container's own", allowed, map[string]string{"io.vitrine.log.rate/app": "3k", "io.vitrine.log.rate": "5", "io.vitrine.log.rate/other": "7"},
			LogOptions{Policy: "drop", Rate: 3000}},
	} {
		got, err := Log(defaults, c.allowed, "app", c.annotations, nil)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
	for key, value := range map[string]string{"policy": "lose", "rate": "-1", "burst": "1e9", "sample": "", "pause-ms": "60001", "stall-ms": "99", "otlp": "maybe", "rate/app": "99999999999G"} {
		_, err := Log(defaults, allowed, "app", map[string]string{"io.vitrine.log." + key: value})
		if !errors.Is(err, pod.ErrInvalid) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s=%s: %v", key, value, err)
		}
	}
	if _, err := Log(LogOptions{}, allowed, "app", map[string]string{"io.vitrine.log.policy": "drop"}); !errors.Is(err, pod.ErrInvalid) {
		t.Errorf("a policy without a rate: %v", err)
	}
}
