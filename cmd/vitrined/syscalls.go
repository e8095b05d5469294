package main

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// maxWatch bounds how long one request may watch.
const maxWatch = time.Hour

// subject is a container with its pod.
type subject struct {
	sandbox   pod.Sandbox
	container pod.Container
}

// subjects are the containers that a query names, the newest first; none is ErrNotFound.
func (d *daemon) subjects(query string) ([]subject, error) {
	if query == "" {
		return nil, fmt.Errorf("%w: of which pod or container?", pod.ErrInvalid)
	}
	var found []subject
	for _, c := range d.pods.Containers() {
		if sb, err := d.pods.Sandbox(string(c.SandboxID)); err == nil && named(query, sb, c) {
			found = append(found, subject{sb, c})
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%q: %w: this node has no container of this name (a pod is namespace/name)", query, pod.ErrNotFound)
	}
	return found, nil
}

// syscalls answers GET /v1/syscalls?pod=QUERY with what the containers' system calls were
// counted to be, one api.Syscalls for each that is or was watched. With &for=DURATION the
// running ones are watched that long, or until they end, &latency=1 with their latencies.
func (d *daemon) syscalls(w http.ResponseWriter, r *http.Request) {
	found, err := d.subjects(r.FormValue("pod"))
	if err != nil {
		refuse(w, err)
		return
	}
	count := func(s subject) (*pod.Syscalls, error) { return d.pods.Syscalls(s.container) }
	if text := r.FormValue("for"); text != "" {
		bound, err := time.ParseDuration(text)
		if err != nil || bound <= 0 || bound > maxWatch {
			refuse(w, fmt.Errorf("%w: for=%q is no time above 0 and up to %v", pod.ErrInvalid, text, maxWatch))
			return
		}
		latency := r.FormValue("latency") == "1"
		count = func(s subject) (*pod.Syscalls, error) {
			if s.container.State == pod.Exited || s.container.State == pod.Removing {
				return nil, nil // an earlier attempt
			}
			return d.pods.WatchSyscalls(r.Context(), string(s.container.ID), bound, latency)
		}
	}
	all, err := countAll(found, count)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: nobody counts its system calls: --for watches a running container for a while, the annotation io.vitrine.syscalls all its life", pod.ErrState)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, all)
}

// countAll counts all at once. One that cannot be counted fails the whole.
func countAll(found []subject, count func(subject) (*pod.Syscalls, error)) ([]api.Syscalls, error) {
	counted, errs := make([]*pod.Syscalls, len(found)), make([]error, len(found))
	var wait sync.WaitGroup
	for i, s := range found {
		wait.Go(func() { counted[i], errs[i] = count(s) })
	}
	wait.Wait()
	all := []api.Syscalls{}
	for i, s := range found {
		if counted[i] != nil {
			all = append(all, api.Syscalls{Pod: podName(s.sandbox), Container: s.container.Config.GetMetadata().GetName(),
				ID: s.container.ID, State: s.container.State.String(), Syscalls: *counted[i]})
		}
	}
	return all, errors.Join(errs...)
}

// flight answers GET /v1/flight?pod=QUERY with what the containers called last, one
// api.Flight for each that has or had a flight recorder.
func (d *daemon) flight(w http.ResponseWriter, r *http.Request) {
	found, err := d.subjects(r.FormValue("pod"))
	all := []api.Flight{}
	for _, s := range found {
		f, flightErr := d.pods.Flight(s.container)
		err = errors.Join(err, flightErr)
		if f != nil {
			all = append(all, api.Flight{Pod: podName(s.sandbox), Container: s.container.Config.GetMetadata().GetName(),
				ID: s.container.ID, State: s.container.State.String(), Flight: *f})
		}
	}
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: it has no flight recorder (annotation io.vitrine.flight), or ended without an error", pod.ErrState)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, all)
}
