package spec

import (
	"fmt"
	"strconv"

	"github.com/vitrine-runtime/vitrine/pod"
)

// denialsAnnotation asks that everything that a container's syscalls are refused be in
// its ledger, which costs every process of the host at each syscall. Behind a slash and a
// container's name it is about that container of the pod alone.
const denialsAnnotation = "io.vitrine.denials"

// WatchDenials says whether the container's syscalls are to be watched for denials: by
// annotation, if allowed names it (see Defaults.Annotations). The container's own goes
// before the pod's. A value that is no truth is ErrInvalid.
func WatchDenials(allowed []string, container string, sources ...map[string]string) (watch bool, err error) {
	for _, key := range []string{denialsAnnotation, denialsAnnotation + "/" + container} {
		for _, source := range sources {
			value, given := source[key]
			if !given || !annotationAllowed(allowed, denialsAnnotation) && !annotationAllowed(allowed, key) {
				continue
			}
			if watch, err = strconv.ParseBool(value); err != nil {
				return false, fmt.Errorf("%w: annotation %s: %q is neither true nor false", pod.ErrInvalid, key, value)
			}
		}
	}
	return watch, nil
}
