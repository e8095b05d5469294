package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/vitrine-runtime/vitrine/oom/calls"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// learn answers POST /v1/seccomp/learn?pod=QUERY: the profiles of the containers that
// live are learned from now on, unless they are being learned already.
func (d *daemon) learn(w http.ResponseWriter, r *http.Request) {
	d.eachLearner(w, r, func(s subject, line *api.Learning) error {
		if _, err := d.pods.Learn(string(s.container.ID)); err != nil {
			return err
		}
		learned, err := d.pods.Learned(s.container)
		if err == nil && learned != nil {
			line.Since, line.Whole = learned.From, learned.Whole
		}
		return err
	})
}

// unlearn answers POST /v1/seccomp/end?pod=QUERY: what learn began is over, and kept.
func (d *daemon) unlearn(w http.ResponseWriter, r *http.Request) {
	d.eachLearner(w, r, func(s subject, _ *api.Learning) error {
		return d.pods.Unlearn(r.Context(), string(s.container.ID))
	})
}

func (d *daemon) eachLearner(w http.ResponseWriter, r *http.Request, do func(subject, *api.Learning) error) {
	found, err := d.subjects(r.FormValue("pod"))
	if err != nil {
		refuse(w, err)
		return
	}
	all := []api.Learning{}
	var errs []error
	for _, s := range found {
		if s.container.State == pod.Exited || s.container.State == pod.Removing {
			continue
		}
		line := api.Learning{Pod: podName(s.sandbox), Container: s.container.Config.GetMetadata().GetName(), ID: s.container.ID}
		if err := do(s, &line); err != nil {
			line.Error = err.Error()
			errs = append(errs, err)
		}
		all = append(all, line)
	}
	switch {
	case len(all) == 0:
		refuse(w, fmt.Errorf("%w: none of its containers lives", pod.ErrState))
	case len(errs) == len(all):
		refuse(w, errors.Join(errs...))
	default:
		answer(w, all)
	}
}

// profile answers GET /v1/seccomp/profile?pod=QUERY with an api.Profile. Of several
// attempts of a container the latest that was learned counts; several containers must be
// told apart by the query.
func (d *daemon) profile(w http.ResponseWriter, r *http.Request) {
	found, err := d.subjects(r.FormValue("pod"))
	var learned *pod.Syscalls
	var of subject
	for _, s := range found { // the newest first
		l, lookErr := d.pods.Learned(s.container)
		err = errors.Join(err, lookErr)
		name := s.container.Config.GetMetadata().GetName()
		switch {
		case l == nil:
		case learned == nil:
			learned, of = l, s
		case s.sandbox.ID != of.sandbox.ID || name != of.container.Config.GetMetadata().GetName():
			err = errors.Join(err, fmt.Errorf("%w: several containers of this name were learned: say namespace/pod/container", pod.ErrInvalid))
		}
	}
	if err == nil && learned == nil {
		err = fmt.Errorf("%w: its profile was not learned: vitrine seccomp learn begins with a running container, the annotation io.vitrine.learn with its first system call", pod.ErrState)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	profile, err := calls.Profile(*learned)
	if err != nil {
		refuse(w, err)
		return
	}
	raw, err := json.Marshal(profile)
	if err != nil {
		refuse(w, err)
		return
	}
	p := api.Profile{Pod: podName(of.sandbox), Container: of.container.Config.GetMetadata().GetName(), ID: of.container.ID, State: of.container.State.String(),
		From: learned.From, To: learned.To, Whole: learned.Whole, Called: []string{}, Refused: []string{}, Profile: raw}
	for _, s := range learned.Calls {
		if s.Refused < s.Calls {
			p.Called = append(p.Called, s.Name)
		} else {
			p.Refused = append(p.Refused, s.Name)
		}
	}
	slices.Sort(p.Called)
	slices.Sort(p.Refused)
	answer(w, p)
}
