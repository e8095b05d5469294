package network

import (
	"errors"
	"testing"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestBandwidthAnnotationsAreQuantities(t *testing.T) {
	for text, want := range map[string]uint64{"10M": 10e6, "1k": 1e3, "1.5G": 15e8, "1Mi": 1 << 20, "1000": 1000, "1P": 1e15,
		"": 0, "999": 0, "2P": 0, "M": 0, "-1M": 0, "1e6": 0, "inf": 0, "0x10k": 0, "1 M": 0, "1..5M": 0, "10m": 0} {
		b, err := BandwidthOf(map[string]string{ingressAnnotation: text})
		if want == 0 {
			if !errors.Is(err, pod.ErrInvalid) {
				t.Errorf("%q: %+v, %v", text, b, err)
			}
		} else if err != nil || *b != (Bandwidth{IngressRate: want, IngressBurst: burst}) {
			t.Errorf("%q: %+v, %v; want %d", text, b, err, want)
		}
	}
	b, err := BandwidthOf(map[string]string{egressAnnotation: "1M", ingressAnnotation: "2M", "other": "x"})
	if err != nil || b.EgressRate != 1e6 || b.IngressRate != 2e6 {
		t.Errorf("%+v, %v", b, err)
	}
	if b, err := BandwidthOf(nil); b != nil || err != nil {
		t.Errorf("without annotations: %+v, %v", b, err)
	}
}
