package cri

import (
	"cmp"
	"regexp"
	"strings"
)

var (
	versionLike = regexp.MustCompile(`^v?\d+\.\d+\.\d+($|[-+])`)
	notMetadata = regexp.MustCompile(`[^0-9A-Za-z.-]+`)
)

// semantic is a build's version as semver.org has it: kubelet and its node controller
// parse it, and tell "Unknown" of a bare commit. That becomes metadata of 0.0.0.
func semantic(version string) string {
	if versionLike.MatchString(version) {
		return strings.TrimPrefix(version, "v")
	}
	return "0.0.0+" + notMetadata.ReplaceAllString(cmp.Or(version, "unknown"), "-")
}
