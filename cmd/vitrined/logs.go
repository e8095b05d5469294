package main

import (
	"net/http"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// logs answers GET /v1/logs?subject=POD|CONTAINER with where the logs of its attempts
// are, also of those that are gone. The bytes are read by who asks: none of them passes
// through the daemon.
func (d *daemon) logs(w http.ResponseWriter, r *http.Request) {
	evidence, err := d.telemetry.Evidence(r.Context(), r.FormValue("subject"), telemetry.Node{
		Sandboxes: d.pods.Sandboxes, Containers: d.pods.Containers, Inspect: d.inspect,
	})
	if err != nil {
		refuse(w, err)
		return
	}
	all := []api.Log{}
	for _, c := range evidence.Containers {
		if evidence.Container != "" && c.Name != evidence.Container {
			continue
		}
		all = append(all, api.Log{Pod: evidence.Pod, Container: c.Name, ID: pod.ID(c.ID), Attempt: c.Attempt, Created: c.Created,
			Ended: c.Exit != nil || c.Gone, Gone: c.Gone, Path: c.LogPath, Words: c.Figures.Output})
	}
	answer(w, all)
}
