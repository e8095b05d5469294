package dashboards

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/telemetry"
	"github.com/vitrine-runtime/vitrine/test/golden"
)

func TestCommittedDashboardsAreGenerated(t *testing.T) {
	for file, d := range All {
		want, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		golden.Check(t, file, string(want))
	}
	golden.Check(t, rulesFile, string(RulesYAML()))
	files, err := filepath.Glob("*.json")
	if err != nil || len(files) != len(All) {
		t.Errorf("files %v for %d descriptions, %v", files, len(All), err)
	}
}

// instrument finds the list's entry of a name in a query.
func instrument(name string) *telemetry.Instrument {
	name = strings.TrimPrefix(name, "vitrine_")
	for _, i := range telemetry.Instruments {
		if i.Name == name {
			return i
		}
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			if i.Kind == telemetry.Histogram && i.Name+suffix == name {
				return i
			}
		}
	}
	return nil
}

var (
	metric   = regexp.MustCompile(`\b(vitrine_[a-z0-9_]+)(?:\{([^}]*)\})?`)
	grouping = regexp.MustCompile(`by \(([^)]*)\)`)
	// containerMetric is not behind a prefix or a level.
	containerMetric = regexp.MustCompile(`(?:^|[ (])(container_[a-z0-9_]+)\{`)
	matcher         = regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)"([^"]*)"`)
)

func TestQueriesNameInstrumentsAndLabelsOfTheList(t *testing.T) {
	families, err := os.ReadFile("../docs/container-metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, q Query) {
		found := metric.FindAllStringSubmatch(q.Expr, -1)
		labels := []string{"instance", "le", "job"}
		ofContainers := containerMetric.FindAllStringSubmatch(q.Expr, -1)
		for _, m := range ofContainers {
			name := m[1]
			labels = append(labels, "namespace", "pod", "container")
			if !bytes.Contains(families, []byte("`"+name+"`")) {
				t.Errorf("%s is not in docs/container-metrics.md", name)
			}
		}
		if len(found)+len(ofContainers) == 0 && !strings.HasPrefix(q.Expr, "up{") {
			t.Errorf("no instrument in %s", q.Expr)
		}
		for _, f := range found {
			i := instrument(f[1])
			if i == nil {
				t.Errorf("%s is not in the list of instruments", f[1])
				continue
			}
			own := []string{"instance", "le"}
			for _, l := range i.Labels {
				own = append(own, l.Name)
			}
			labels = append(labels, own...)
			for _, m := range matcher.FindAllStringSubmatch(f[2], -1) {
				if !slices.Contains(own, m[1]) {
					t.Errorf("%s has no label %s", f[1], m[1])
				}
				for _, l := range i.Labels {
					if l.Name == m[1] && len(l.Values) > 0 && !strings.ContainsAny(m[2], "|.*") && !slices.Contains(l.Values, m[2]) {
						t.Errorf("%s: %s is never %q", f[1], m[1], m[2])
					}
				}
			}
		}
		for _, g := range grouping.FindAllStringSubmatch(q.Expr, -1) {
			for _, label := range strings.Split(g[1], ",") {
				if !slices.Contains(labels, strings.TrimSpace(label)) {
					t.Errorf("grouped by %q, which %s does not have", strings.TrimSpace(label), q.Expr)
				}
			}
		}
		if strings.Count(q.Expr, "(") != strings.Count(q.Expr, ")") || strings.Contains(q.Expr, "vitrine_") && strings.Contains(q.Expr, "_total") && !strings.Contains(q.Expr, "rate(") && !strings.Contains(q.Expr, "increase(") {
			t.Errorf("%s cannot be meant", q.Expr)
		}
	}
	every(t, func(t *testing.T, _ Panel, q Query) { check(t, q) })
	for _, r := range Recordings {
		t.Run(r.Name, func(t *testing.T) { check(t, Query{Expr: r.Expr}) })
	}
	for _, a := range Alerts {
		t.Run(a.Name, func(t *testing.T) { check(t, Query{Expr: a.Value}) })
	}
}

func TestEveryAlertHasARunbookAndEveryRunbookAnAlert(t *testing.T) {
	names := map[string]bool{}
	for _, a := range Alerts {
		names[a.Name+".md"] = true
		text, err := os.ReadFile(runbooks + a.Name + ".md")
		if err != nil || !bytes.Contains(text, []byte("# "+a.Name+"\n")) || !bytes.Contains(text, []byte("\n## Look\n")) || !bytes.Contains(text, []byte("\n## Do\n")) {
			t.Errorf("runbook of %s: %v", a.Name, err)
		}
		if a.Summary == "" || a.Severity != "page" && a.Severity != "ticket" {
			t.Errorf("%s lacks a summary or a severity", a.Name)
		}
	}
	files, err := os.ReadDir(runbooks)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !names[f.Name()] {
			t.Errorf("%s is of no alert", f.Name())
		}
	}
}

func TestPanelsExplainThemselvesAndDoNotOverlap(t *testing.T) {
	every(t, func(t *testing.T, p Panel, q Query) {
		if p.Title == "" || p.Unit == "" || !strings.HasSuffix(p.Description, ".") || q.Legend == "" {
			t.Errorf("panel %+v lacks a title, a unit, a sentence or a legend", p)
		}
	})
	for file, d := range All {
		raw, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			UID    string
			Panels []struct {
				ID      int
				Title   string
				GridPos struct{ X, Y, W, H int }
			}
		}
		if err := json.Unmarshal(raw, &page); err != nil || page.UID == "" {
			t.Fatalf("%s: %v", file, err)
		}
		ids, cells := map[int]bool{}, map[[2]int]string{}
		for _, p := range page.Panels {
			if ids[p.ID] {
				t.Errorf("%s: id %d twice", file, p.ID)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := cells[[2]int{x, y}]; other != "" || x >= gridColumns {
						t.Fatalf("%s: panel %q overlaps %q at %d, %d", file, p.Title, other, x, y)
					}
					cells[[2]int{x, y}] = p.Title
				}
			}
		}
	}
}

// every runs a check for each query of each dashboard.
func every(t *testing.T, check func(*testing.T, Panel, Query)) {
	for file, d := range All {
		for _, r := range d.Rows {
			for _, p := range r.Panels {
				t.Run(strings.TrimSuffix(file, ".json")+"/"+p.Title, func(t *testing.T) {
					for _, q := range p.Queries {
						check(t, p, q)
					}
				})
			}
		}
	}
}
