package main

import (
	"context"
	"net/http"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// denials answers GET /v1/denials with what the containers that there are were denied,
// one api.Denials for each that was denied anything, or that ?pod= selects (see named).
func (d *daemon) denials(w http.ResponseWriter, r *http.Request) {
	answer(w, d.ledgers(r.Context(), r.FormValue("pod")))
}

// ledgers are those of the containers that a query means, or of all that were denied
// anything.
func (d *daemon) ledgers(ctx context.Context, query string) []api.Denials {
	all := []api.Denials{}
	for _, c := range d.pods.Containers() {
		sb, err := d.pods.Sandbox(string(c.SandboxID))
		if err != nil || query != "" && !named(query, sb, c) {
			continue
		}
		ledger, lost := d.pods.Denials(ctx, c)
		if query == "" && len(ledger) == 0 {
			continue
		}
		if ledger == nil {
			ledger = []pod.Denial{}
		}
		meta := sb.Config.GetMetadata()
		all = append(all, api.Denials{
			Pod: meta.GetNamespace() + "/" + meta.GetName(), Container: c.Config.GetMetadata().GetName(), ID: c.ID,
			State: c.State.String(), Observed: c.Evidence.Watched, Denials: ledger, Lost: lost,
		})
	}
	return all
}
