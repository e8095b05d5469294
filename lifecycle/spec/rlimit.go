package spec

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// rlimitNames are the limits of getrlimit(2) that an OCI specification may set.
const rlimitNames = " RLIMIT_AS RLIMIT_CORE RLIMIT_CPU RLIMIT_DATA RLIMIT_FSIZE RLIMIT_LOCKS RLIMIT_MEMLOCK RLIMIT_MSGQUEUE" +
	" RLIMIT_NICE RLIMIT_NOFILE RLIMIT_NPROC RLIMIT_RSS RLIMIT_RTPRIO RLIMIT_RTTIME RLIMIT_SIGPENDING RLIMIT_STACK "

// rlimits are the administrator's, cut down to what the daemon may set.
func (b *builder) rlimits() ([]specs.POSIXRlimit, error) {
	var limits []specs.POSIXRlimit
	for _, l := range b.Defaults.Rlimits {
		if strings.Contains(l.Type, " ") || !strings.Contains(rlimitNames, " "+l.Type+" ") {
			return nil, invalid("default rlimits: %.80q is not a resource limit", l.Type)
		}
		if l.Soft > l.Hard {
			return nil, invalid("default rlimits: %s has soft limit %d above hard limit %d", l.Type, l.Soft, l.Hard)
		}
		if bound, ok := b.Host.HardLimits[l.Type]; ok && l.Hard > bound {
			b.warn("resource limit lowered to what may be set", "rlimit", l.Type, "wanted", l.Hard, "set", bound)
			l.Hard, l.Soft = bound, min(l.Soft, bound)
		}
		limits = append(limits, l)
	}
	return limits, nil
}
