package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// apiHandler is what the vitrine command asks, on STATE/api.sock.
func (d *daemon) apiHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v1/traces", d.telemetry.APIHandler())
	mux.Handle("/v1/traces/", d.telemetry.APIHandler())
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) { answer(w, d.status(r)) })
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, _ *http.Request) { answer(w, d.config.settings()) })
	mux.HandleFunc("GET /v1/check", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, hostFeatures(d.config.Runtime, d.programs.features()))
	})
	mux.HandleFunc("GET /v1/events", d.events)
	mux.HandleFunc("POST /v1/monitors/upgrade", d.upgradeMonitors)
	mux.HandleFunc("GET /v1/pulls", d.pulls)
	mux.HandleFunc("GET /v1/why", d.why)
	mux.HandleFunc("GET /v1/lives", d.lives)
	mux.HandleFunc("GET /v1/history", d.history)
	mux.HandleFunc("GET /v1/oom", d.oomKills)
	mux.HandleFunc("GET /v1/top", d.top)
	mux.HandleFunc("GET /v1/logs", d.logs)
	mux.HandleFunc("GET /v1/pods", d.podNames)
	mux.HandleFunc("GET /v1/denials", d.denials)
	mux.HandleFunc("GET /v1/syscalls", d.syscalls)
	mux.HandleFunc("GET /v1/flight", d.flight)
	mux.HandleFunc("POST /v1/seccomp/learn", d.learn)
	mux.HandleFunc("POST /v1/seccomp/end", d.unlearn)
	mux.HandleFunc("GET /v1/seccomp/profile", d.profile)
	return mux
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		slog.Debug("answer an API request", "error", err)
	}
}

func (d *daemon) status(r *http.Request) api.Status {
	s := api.Status{
		Version: version, PID: os.Getpid(), StartedAt: d.started, Network: "ready",
		Sandboxes: d.sandboxStates(), Containers: d.containerStates(), Operations: d.operations(),
	}
	if images, err := d.images.List(r.Context()); err == nil {
		s.Images = len(images)
	}
	if err := d.pods.NetworkReady(); err != nil {
		s.Network = err.Error()
	}
	return s
}

// pulls answers GET /v1/pulls.
func (d *daemon) pulls(w http.ResponseWriter, _ *http.Request) {
	list := api.Pulls{Pulls: []api.Pull{}}
	for _, p := range d.images.Pulls() {
		list.Pulls = append(list.Pulls, api.Pull{Ref: p.Ref, Since: p.Since, Phase: p.Phase, Waiters: p.Waiters, Bytes: p.Bytes, Total: p.Total})
	}
	answer(w, list)
}

// events streams one JSON object per line until the client goes away.
func (d *daemon) events(w http.ResponseWriter, r *http.Request) {
	subscription := d.pods.Subscribe(1024)
	defer subscription.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	flusher := http.NewResponseController(w)
	flusher.Flush()
	encoder := json.NewEncoder(w)
	for {
		select {
		case <-r.Context().Done():
			return
		case e, open := <-subscription.Events():
			if !open || encoder.Encode(apiEvent(*e)) != nil || flusher.Flush() != nil {
				return
			}
		}
	}
}

func apiEvent(e pod.Event) api.Event {
	meta := e.Sandbox.Config.GetMetadata()
	line := api.Event{Seq: e.Seq, Time: e.Time, Kind: string(e.Kind), Pod: meta.GetNamespace() + "/" + meta.GetName(), Sandbox: e.Sandbox.ID, Kill: e.Kill, Denial: e.Denial, Stall: e.Stall}
	if c := e.Container; c != nil {
		line.Container, line.ID, line.Exit = c.Config.GetMetadata().GetName(), c.ID, c.Exit
	}
	return line
}

// refuse answers with the error in one line.
func refuse(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, pod.ErrNotFound):
		code = http.StatusNotFound
	case errors.Is(err, pod.ErrInvalid):
		code = http.StatusBadRequest
	case errors.Is(err, pod.ErrState):
		code = http.StatusConflict
	case errors.Is(err, pod.ErrUnsupported):
		code = http.StatusNotImplemented
	case errors.Is(err, pod.ErrExhausted):
		code = http.StatusTooManyRequests
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}
