package main

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// oomKills answers with the OOM kills on the containers' records, the latest first.
// ?pod= selects: namespace/pod, a pod's name or uid, or the beginning of an id.
func (d *daemon) oomKills(w http.ResponseWriter, r *http.Request) {
	answer(w, d.kills(r.FormValue("pod")))
}

// kills are those of the pods and containers that query names; empty names all.
func (d *daemon) kills(query string) []api.OOM {
	all := []api.OOM{}
	for _, c := range d.pods.Containers() {
		sb, err := d.pods.Sandbox(string(c.SandboxID))
		if err != nil || query != "" && !named(query, sb, c) {
			continue
		}
		meta := sb.Config.GetMetadata()
		for _, kill := range c.Evidence.Kills {
			line := api.OOM{OOMKill: kill, Pod: meta.GetNamespace() + "/" + meta.GetName(), Container: c.Config.GetMetadata().GetName(),
				ID: c.ID, State: c.State.String(), Kills: c.Evidence.OOMKills}
			if c.Exit != nil {
				line.Reason, line.Exited = c.Exit.Reason, &c.FinishedAt
			}
			all = append(all, line)
		}
	}
	slices.SortFunc(all, func(a, b api.OOM) int { return cmp.Compare(b.SinceBoot, a.SinceBoot) })
	return all
}

// named says whether a person's word for a pod or container fits this one.
func named(query string, sb pod.Sandbox, c pod.Container) bool {
	meta, name := sb.Config.GetMetadata(), c.Config.GetMetadata().GetName()
	whole := meta.GetNamespace() + "/" + meta.GetName()
	return slices.Contains([]string{whole, whole + "/" + name, meta.GetName(), meta.GetUid()}, query) ||
		len(query) >= 6 && (strings.HasPrefix(string(sb.ID), query) || strings.HasPrefix(string(c.ID), query))
}
