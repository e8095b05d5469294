package observe

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// conventions are the attribute keys of OpenTelemetry's semantic conventions, as the
// package lists them that telemetry uses.
func conventions(t *testing.T) map[string]bool {
	t.Helper()
	dir := harness.Must(exec.Command("go", "list", "-f", "{{.Dir}}", "go.opentelemetry.io/otel/semconv/v1.43.0").Output())(t)
	source := harness.Must(os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "attribute_group.go")))(t)
	keys := map[string]bool{}
	for _, m := range regexp.MustCompile(`attribute\.Key\("([^"]+)"\)`).FindAllSubmatch(source, -1) {
		keys[string(m[1])] = true
	}
	if len(keys) < 100 {
		t.Fatalf("only %d keys in the conventions", len(keys))
	}
	return keys
}

// Every attribute of a span and of its events has a name of the conventions or ours.
func TestAttributesHaveNamesOfTheConventionsOrOurs(t *testing.T) {
	known := conventions(t)
	n := start(t, harness.Options{})
	n.life("named")
	if _, err := n.cri.Pull(n.ctx, hub.Image+"-absent"); err == nil {
		t.Fatal("an image that is not there was pulled")
	}
	var found struct {
		Traces []waterfall.Summary `json:"traces"`
	}
	n.must(json.Unmarshal([]byte(harness.Must(n.Get("/v1/traces?reads=1&limit=1000"))(t)), &found))
	seen := map[string]string{}
	traces := n.lives("test/named")
	if len(traces) == 0 {
		t.Error("no life")
	}
	for _, f := range found.Traces {
		traces = append(traces, harness.Must(n.Trace(n.ctx, f.ID))(t))
	}
	for _, trace := range traces {
		for _, s := range trace.Spans {
			for key := range s.Attributes {
				seen[key] = s.Name
			}
			for _, e := range s.Events {
				for key := range e.Attributes {
					seen[key] = s.Name + ", event " + e.Name
				}
			}
		}
	}
	for key, where := range seen {
		if !known[key] && !strings.HasPrefix(key, "vitrine.") {
			t.Errorf("%s of %s is neither in the conventions nor ours", key, where)
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d keys were seen: %v", len(seen), seen)
	}
}
