package telemetry

import (
	"strings"
	"time"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
)

// Innermost is the step that a running operation is in, as deep as this process knows:
// the one that began last of those that have not ended, in the chain below the span of
// this name and begin. It is not ok when the operation has no step of its own.
func (t *Telemetry) Innermost(name string, began time.Time) (step string, since time.Time, ok bool) {
	if t.live == nil {
		return "", time.Time{}, false
	}
	records := t.live.records(time.Now())
	at := -1
	for i, r := range records {
		if r.Name == name && r.Start == began.UnixNano() {
			at = i
		}
	}
	if at < 0 {
		return "", time.Time{}, false
	}
	below := map[string]bool{records[at].ID: true}
	for _, r := range records { // in the order of their start: a parent comes before its children
		if r.trace == records[at].trace && below[r.ParentID] && r.Unfinished {
			below[r.ID] = true
			step, since, ok = label(r), time.Unix(0, r.Start), true
		}
	}
	return step, since, ok
}

// label names a step with what it runs.
func label(r record) string {
	words := []string{waterfall.ShortName(r.Name)}
	for _, key := range []string{"vitrine.cni.plugin", "vitrine.cni.command", "vitrine.hook.name"} {
		if v := r.Text(key); v != "" {
			words = append(words, v)
		}
	}
	return strings.Join(words, " ")
}
