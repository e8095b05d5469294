package main

import (
	"fmt"
	"strings"

	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// operations are what the daemon is doing, each with what it waits for.
func (d *daemon) operations() []api.Operation {
	all := []api.Operation{}
	going := d.pods.Operations()
	for _, op := range going {
		line := api.Operation{Subject: op.Subject, Name: op.Name, Phase: op.Phase, Since: op.Since, Began: op.Began, ID: op.ID}
		line.Blocked = holder(op, going)
		if line.Blocked == nil {
			if step, since, ok := d.telemetry.Innermost("lifecycle."+op.Name, op.Began); ok {
				line.Blocked = &api.Blocked{On: step, Since: since}
			}
		}
		all = append(all, line)
	}
	return all
}

// lockPhase is the step in which an operation waits for the pod's or container's lock.
const lockPhase = "lock"

// holder is the operation for whose end one waits that is in its lock phase: the oldest
// of the same pod that is past its own.
func holder(op lifecycle.Operation, going []lifecycle.Operation) *api.Blocked {
	if op.Phase != lockPhase {
		return nil
	}
	for _, other := range going { // the oldest first
		if other.Phase != lockPhase && podOf(other.Subject) == podOf(op.Subject) && other.Began.Before(op.Since) {
			return &api.Blocked{On: fmt.Sprintf("%s of %s, in %s", other.Name, other.Subject, other.Phase), Since: op.Since}
		}
	}
	return nil
}

// podOf is namespace/name of a subject, which may name a container of the pod behind it.
func podOf(subject string) string {
	parts := strings.SplitN(subject, "/", 3)
	return strings.Join(parts[:min(len(parts), 2)], "/")
}
