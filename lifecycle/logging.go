package lifecycle

import (
	"path/filepath"
	"time"

	"github.com/vitrine-runtime/vitrine/lifecycle/spec"
	"github.com/vitrine-runtime/vitrine/monitor/client"
	"github.com/vitrine-runtime/vitrine/monitor/wire"
	"github.com/vitrine-runtime/vitrine/pod"
)

// logOptions are the administrator's, with what the pod's annotations change.
func (m *Manager) logOptions(sb pod.Sandbox, c pod.Container) (spec.LogOptions, error) {
	return spec.Log(m.config.Log, m.config.Annotations, c.Config.GetMetadata().GetName(), sb.Config.GetAnnotations(), c.Config.GetAnnotations())
}

// logSinks tells the monitor where the container's output goes, and how much of it.
func logSinks(s *client.Spawn, o spec.LogOptions, logDirectory string) {
	policies := map[string]uint8{"drop": wire.LimitDrop, "backpressure": wire.LimitBackpressure, "sample": wire.LimitSample}
	s.LogLimit = wire.LogLimit{
		Policy: policies[o.Policy], Rate: uint64(o.Rate), Burst: uint64(o.Burst), Sample: uint64(o.Sample), Pause: uint64(o.PauseMilliseconds),
	}
	s.LogOTLP, s.LogJournal = o.OTLP, o.Journald
	s.LogStall = time.Duration(o.StallMilliseconds) * time.Millisecond
	// An administrator may have put the directory of all pods elsewhere by a link. The
	// pod's own directory and what is in it, where a pod with a host path can reach, are
	// what kubelet has made.
	if s.LogPath != "" {
		s.LogTrusted = filepath.Dir(filepath.Clean(logDirectory))
	}
}
