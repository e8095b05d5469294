// Package deps checks who imports whom: policy.txt is the design's import table with
// a reason for every ban, and docs/deps holds the reviewed import list of the
// process that is paid for once per container.
package deps

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/test/golden"
)

type rule struct {
	pkg, kind string
	names     []string
	because   string
}

func policy(t *testing.T) []rule {
	t.Helper()
	raw, err := os.ReadFile("policy.txt")
	if err != nil {
		t.Fatal(err)
	}
	var rules []rule
	for n, line := range strings.Split(string(raw), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "|")
		if len(f) != 4 {
			t.Fatalf("policy.txt:%d: %d columns, want 4", n+1, len(f))
		}
		r := rule{strings.TrimSpace(f[0]), strings.TrimSpace(f[1]), strings.Fields(f[2]), strings.TrimSpace(f[3])}
		if !slices.Contains([]string{"rooms", "never", "deep", "owner"}, r.kind) || r.because == "" || len(r.names) == 0 {
			t.Fatalf("policy.txt:%d: want a rule of rooms, never, deep, owner, with names and a reason", n+1)
		}
		rules = append(rules, r)
	}
	return rules
}

func TestRoomsImportOnlyWhatThePolicyAllows(t *testing.T) {
	rules := policy(t)
	pure := load(t, "0", pureTags, "./...")
	c := load(t, "1", "seccomp", "./launch/libct/...", "./cmd/vitrine-launch/...")
	for _, g := range []graph{pure, c} {
		for _, pkg := range g.ours() {
			for _, broken := range check(g, rules, pkg) {
				t.Error(broken)
			}
		}
	}
}

// check returns one text per broken rule.
func check(g graph, rules []rule, pkg string) (broken []string) {
	imports := g[module+"/"+pkg].Imports
	direct := func(names []string, why string) {
		for _, imp := range imports {
			for _, name := range names {
				if below(imp, full(name)) && !below(module+"/"+pkg, full(name)) {
					broken = append(broken, explain(pkg, why, []string{pkg, short(imp)}))
				}
			}
		}
	}
	var rooms *rule
	for i, r := range rules {
		switch {
		case r.kind == "owner":
			if !slices.ContainsFunc(append(r.names, "test"), func(owner string) bool { return below(pkg, owner) }) {
				direct([]string{r.pkg}, r.because)
			}
		case !below(pkg, r.pkg):
		case r.kind == "rooms" && (rooms == nil || len(r.pkg) > len(rooms.pkg)):
			rooms = &rules[i]
		case r.kind == "never":
			direct(r.names, r.because)
		case r.kind == "deep":
			for _, name := range r.names {
				if path := g.chain(pkg, func(p string) bool { return below(p, full(name)) }); path != nil {
					broken = append(broken, explain(pkg, r.because, path))
				}
			}
		}
	}
	if rooms == nil {
		return append(broken, pkg+": no rule of policy.txt names this room; say what it may import and why")
	}
	for _, imp := range imports {
		name, is := strings.CutPrefix(imp, module+"/")
		if !is || rooms.names[0] == "*" || room(name) == room(pkg) && !named(rules, pkg) {
			continue
		}
		if !slices.ContainsFunc(rooms.names, func(allowed string) bool { return below(name, allowed) }) && !below(name, rooms.pkg) {
			broken = append(broken, explain(pkg, rooms.because, []string{pkg, name}))
		}
	}
	return broken
}

// named reports whether a sub-package has a line of its own: its own room is then
// no free pass.
func named(rules []rule, pkg string) bool {
	return strings.Contains(pkg, "/") && slices.ContainsFunc(rules, func(r rule) bool { return r.kind == "rooms" && r.pkg == pkg })
}

// The list leaves out the standard library's internal packages: they change with
// every Go release and nobody chose them.
func TestMonitorLinksExactlyTheReviewedPackages(t *testing.T) {
	g := load(t, "0", "", "./cmd/vitrine-monitor")
	if n := g[module+"/cmd/vitrine-monitor"]; n == nil || n.Error != nil {
		t.Fatal("no cmd/vitrine-monitor")
	}
	var list []string
	for path, n := range g {
		if !n.Standard || !strings.Contains("/"+path+"/", "/internal/") && !strings.HasPrefix(path, "vendor/") {
			list = append(list, path)
		}
	}
	slices.Sort(list)
	got := strings.Join(list, "\n") + "\n"
	const file = "../../docs/deps/monitor.txt"
	if golden.Update() {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range list {
		if !slices.Contains(strings.Fields(string(want)), path) {
			t.Errorf("the monitor now links %s: %s\n\twhat does it cost per container? `make deps` accepts it",
				path, strings.Join(g.chain("cmd/vitrine-monitor", func(p string) bool { return p == path }), " → "))
		}
	}
	if !t.Failed() && got != string(want) {
		t.Error("the monitor links less than docs/deps/monitor.txt says: `make deps`")
	}
}

func TestBrokenRulesAreFoundWithTheirChain(t *testing.T) {
	g := graph{
		module + "/pod":                 {ImportPath: module + "/pod", Imports: []string{module + "/cri"}},
		module + "/cri":                 {ImportPath: module + "/cri", Imports: []string{"net/http"}},
		module + "/cmd/vitrine-monitor": {ImportPath: module + "/cmd/vitrine-monitor", Imports: []string{module + "/monitor"}},
		module + "/monitor":             {ImportPath: module + "/monitor", Imports: []string{"example.org/x"}},
		"example.org/x":                 {ImportPath: "example.org/x", Imports: []string{"net"}},
	}
	rules := []rule{
		{"pod", "rooms", []string{"-"}, "leaf"},
		{"cri", "rooms", []string{"pod"}, "wire"},
		{"cri", "never", []string{"net/http"}, "no pages"},
		{"cmd", "rooms", []string{"*"}, "all"},
		{"cmd/vitrine-monitor", "deep", []string{"net"}, "memory"},
	}
	for pkg, want := range map[string]string{
		"pod":                 "pod → cri",
		"cri":                 "cri → net/http",
		"cmd/vitrine-monitor": "cmd/vitrine-monitor → monitor → example.org/x → net",
		"monitor":             "no rule",
	} {
		if got := strings.Join(check(g, rules, pkg), "\n"); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", pkg, got, want)
		}
	}
}
