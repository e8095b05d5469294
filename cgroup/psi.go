package cgroup

import (
	"strconv"
	"strings"
)

// readPSI returns nil where the kernel has no pressure information for the cgroup.
func readPSI(dir, name string) (*PSI, error) {
	text, err := readFile(dir, name)
	if err != nil {
		return nil, optional(err)
	}
	return parsePSI(text), nil
}

// parsePSI reads lines such as "some avg10=0.00 avg60=0.00 avg300=0.00 total=12",
// whose total is in microseconds.
func parsePSI(text string) *PSI {
	psi := &PSI{}
	for line := range strings.Lines(text) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		var into *PSILine
		switch kind {
		case "some":
			into = &psi.Some
		case "full":
			into = &psi.Full
		default:
			continue
		}
		for field := range strings.SplitSeq(rest, " ") {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "avg10":
				into.Avg10, _ = strconv.ParseFloat(value, 64)
			case "avg60":
				into.Avg60, _ = strconv.ParseFloat(value, 64)
			case "avg300":
				into.Avg300, _ = strconv.ParseFloat(value, 64)
			case "total":
				n, _ := strconv.ParseUint(value, 10, 64)
				into.Total = n * 1000
			}
		}
	}
	return psi
}
