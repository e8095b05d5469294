package main

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// oomRecord is one line of GET /v1/oom: an OOM kill, and how its container stands now.
type oomRecord struct {
	pod.OOMKill
	Pod       string `json:"pod"`
	Container string `json:"container"`
	ID        pod.ID `json:"containerId"`
	State     string `json:"state"`
	// Reason and Exited are those of the container's end, if it has ended.
	Reason string     `json:"reason,omitempty"`
	Exited *time.Time `json:"exited,omitempty"`
	// Kills counts all kills of the container; its record keeps the last of them.
	Kills uint64 `json:"kills"`
}

// oomKills answers with the OOM kills on the containers' records, the latest first.
// ?pod= selects: namespace/pod, a pod's name or uid, or the beginning of an id.
func (d *daemon) oomKills(w http.ResponseWriter, r *http.Request) {
	query := r.FormValue("pod")
	all := []oomRecord{}
	for _, c := range d.pods.Containers() {
		sb, err := d.pods.Sandbox(string(c.SandboxID))
		if err != nil || query != "" && !named(query, sb, c) {
			continue
		}
		meta := sb.Config.GetMetadata()
		for _, kill := range c.Evidence.Kills {
			line := oomRecord{OOMKill: kill, Pod: meta.GetNamespace() + "/" + meta.GetName(), Container: c.Config.GetMetadata().GetName(),
				ID: c.ID, State: c.State.String(), Kills: c.Evidence.OOMKills}
			if c.Exit != nil {
				line.Reason, line.Exited = c.Exit.Reason, &c.FinishedAt
			}
			all = append(all, line)
		}
	}
	slices.SortFunc(all, func(a, b oomRecord) int { return cmp.Compare(b.SinceBoot, a.SinceBoot) })
	answer(w, all)
}

// named says whether a person's word for a pod or container fits this one.
func named(query string, sb pod.Sandbox, c pod.Container) bool {
	meta, name := sb.Config.GetMetadata(), c.Config.GetMetadata().GetName()
	whole := meta.GetNamespace() + "/" + meta.GetName()
	return slices.Contains([]string{whole, whole + "/" + name, meta.GetName(), meta.GetUid()}, query) ||
		len(query) >= 6 && (strings.HasPrefix(string(sb.ID), query) || strings.HasPrefix(string(c.ID), query))
}
