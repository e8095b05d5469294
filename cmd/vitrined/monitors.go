package main

import (
	"encoding/json"
	"net/http"

	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// upgradeMonitors replaces the programs of the monitors that ?id= means, all without
// it, and streams one JSON object per monitor.
func (d *daemon) upgradeMonitors(w http.ResponseWriter, r *http.Request) {
	flusher := http.NewResponseController(w)
	encoder := json.NewEncoder(w)
	begun := false
	begin := func() {
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			begun = true
		}
	}
	err := d.pods.UpgradeMonitors(r.Context(), r.URL.Query().Get("id"), func(u lifecycle.MonitorUpgrade) {
		begin()
		line := api.MonitorUpgrade{ID: u.Container.ID, Name: u.Container.Config.GetMetadata().GetName(), Build: u.Build}
		if u.Err != nil {
			line.Error = u.Err.Error()
		}
		encoder.Encode(line) // whoever asked may have gone; the rest is done all the same
		flusher.Flush()
	})
	if err != nil {
		refuse(w, err)
		return
	}
	begin()
}
