package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/pod"
)

// apiHandler is what the vitrine command asks, on STATE/api.sock.
func (d *daemon) apiHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v1/traces", d.telemetry.APIHandler())
	mux.Handle("/v1/traces/", d.telemetry.APIHandler())
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) { answer(w, d.status(r)) })
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, _ *http.Request) { answer(w, d.config.settings()) })
	mux.HandleFunc("GET /v1/check", func(w http.ResponseWriter, _ *http.Request) { answer(w, hostFeatures()) })
	mux.HandleFunc("GET /v1/events", d.events)
	mux.HandleFunc("POST /v1/monitors/upgrade", d.upgradeMonitors)
	mux.HandleFunc("GET /v1/why", d.why)
	mux.HandleFunc("GET /v1/history", d.history)
	return mux
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		slog.Debug("answer an API request", "error", err)
	}
}

// status is the node at a glance.
type status struct {
	Version    string         `json:"version"`
	PID        int            `json:"pid"`
	StartedAt  time.Time      `json:"startedAt"`
	Sandboxes  map[string]int `json:"sandboxes"`
	Containers map[string]int `json:"containers"`
	Images     int            `json:"images"`
	Network    string         `json:"network"`
	Operations []operation    `json:"operations"`
}

// operation is one line of the table of what is in flight.
type operation struct {
	Subject string    `json:"subject"`
	Name    string    `json:"name"`
	Phase   string    `json:"phase"`
	Since   time.Time `json:"since"`
	Began   time.Time `json:"began"`
	ID      pod.ID    `json:"id"`
}

func (d *daemon) status(r *http.Request) status {
	s := status{
		Version: version, PID: os.Getpid(), StartedAt: d.started, Network: "ready",
		Sandboxes: d.sandboxStates(), Containers: d.containerStates(), Operations: []operation{},
	}
	if images, err := d.images.List(r.Context()); err == nil {
		s.Images = len(images)
	}
	if err := d.pods.NetworkReady(); err != nil {
		s.Network = err.Error()
	}
	for _, op := range d.pods.Operations() {
		s.Operations = append(s.Operations, apiOperation(op))
	}
	return s
}

func apiOperation(op lifecycle.Operation) operation {
	return operation{Subject: op.Subject, Name: op.Name, Phase: op.Phase, Since: op.Since, Began: op.Began, ID: op.ID}
}

// event is one line of the stream of GET /v1/events.
type event struct {
	Seq       uint64    `json:"seq"`
	Time      time.Time `json:"time"`
	Kind      string    `json:"kind"`
	Pod       string    `json:"pod"`
	Sandbox   pod.ID    `json:"sandbox"`
	Container string    `json:"container,omitempty"`
	ID        pod.ID    `json:"containerId,omitempty"`
	Exit      *pod.Exit `json:"exit,omitempty"`
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
			if !open || encoder.Encode(apiEvent(e)) != nil || flusher.Flush() != nil {
				return
			}
		}
	}
}

func apiEvent(e pod.Event) event {
	meta := e.Sandbox.Config.GetMetadata()
	line := event{Seq: e.Seq, Time: e.Time, Kind: string(e.Kind), Pod: meta.GetNamespace() + "/" + meta.GetName(), Sandbox: e.Sandbox.ID}
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
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}
