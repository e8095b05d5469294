package network

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/vitrine-runtime/vitrine/pod"
)

// The annotations by which a pod asks for limits, in bits per second as a Kubernetes
// quantity.
const (
	ingressAnnotation = "kubernetes.io/ingress-bandwidth"
	egressAnnotation  = "kubernetes.io/egress-bandwidth"
)

// Kubernetes takes rates from 1k to 1P.
const (
	minRate = 1e3
	maxRate = 1e15
)

// burst is what may be sent at once above the rate, in bits: the plugin demands a
// value, Kubernetes has no annotation for it.
const burst = math.MaxInt32

// BandwidthOf reads a pod's annotations; nil means no limit. Errors are pod.ErrInvalid.
func BandwidthOf(annotations map[string]string) (*Bandwidth, error) {
	var b Bandwidth
	for _, a := range []struct {
		key         string
		rate, burst *uint64
	}{{ingressAnnotation, &b.IngressRate, &b.IngressBurst}, {egressAnnotation, &b.EgressRate, &b.EgressBurst}} {
		text, asked := annotations[a.key]
		if !asked {
			continue
		}
		rate, err := parseRate(text)
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", a.key, err)
		}
		*a.rate, *a.burst = rate, burst
	}
	if b == (Bandwidth{}) {
		return nil, nil
	}
	return &b, nil
}

var rateSuffixes = []struct {
	suffix string
	factor float64
}{
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40},
	{"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"P", 1e15},
}

// parseRate reads a decimal number with an optional suffix.
func parseRate(text string) (uint64, error) {
	number, factor := text, 1.0
	for _, s := range rateSuffixes {
		if rest, found := strings.CutSuffix(text, s.suffix); found {
			number, factor = rest, s.factor
			break
		}
	}
	if strings.Trim(number, "0123456789.") != "" { // ParseFloat also takes inf, hex and underscores
		return 0, fmt.Errorf("%w: %.40q is not a bandwidth such as 10M", pod.ErrInvalid, text)
	}
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %.40q is not a bandwidth such as 10M", pod.ErrInvalid, text)
	}
	if value *= factor; value < minRate || value > maxRate {
		return 0, fmt.Errorf("%w: bandwidth %.40q is not between 1k and 1P", pod.ErrInvalid, text)
	}
	return uint64(value), nil
}
