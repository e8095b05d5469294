package deps

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/vitrine-runtime/vitrine"

// pureTags are the build tags of everything that links no C; see Makefile.
const pureTags = "containers_image_openpgp,exclude_graphdriver_btrfs,containers_image_docker_daemon_stub"

// A graph is who imports whom, as the go command resolves it, test files left out.
type graph map[string]*node

type node struct {
	ImportPath string
	Imports    []string
	Standard   bool
	DepOnly    bool
	Error      *struct{ Err string }
}

// load lists the packages and all they import. The launcher's packages exist only
// with cgo, everything else is built without; the two are different graphs.
func load(t *testing.T, cgo string, tags string, patterns ...string) graph {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-deps", "-tags", tags, "-json=ImportPath,Imports,Standard,DepOnly,Error"}, patterns...)...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g := graph{}
	for dec := json.NewDecoder(out); ; {
		var n node
		if err := dec.Decode(&n); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		g[n.ImportPath] = &n
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return g
}

// ours returns the packages that were asked for, sorted, without the module's path.
func (g graph) ours() []string {
	var names []string
	for path, n := range g {
		if !n.DepOnly && n.Error == nil && strings.HasPrefix(path, module+"/") {
			names = append(names, strings.TrimPrefix(path, module+"/"))
		}
	}
	slices.Sort(names)
	return names
}

// chain is the shortest import path from one of our packages to a package that
// matches, empty when there is none.
func (g graph) chain(from string, match func(string) bool) []string {
	start := module + "/" + from
	came := map[string]string{start: ""}
	for queue := []string{start}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at != start && match(at) {
			var path []string
			for ; at != ""; at = came[at] {
				path = append([]string{short(at)}, path...)
			}
			return path
		}
		if n := g[at]; n != nil {
			for _, next := range n.Imports {
				if _, seen := came[next]; !seen {
					came[next] = at
					queue = append(queue, next)
				}
			}
		}
	}
	return nil
}

// full turns a policy's name into an import path: a name of the module's own rooms
// gets the module's path, all others stay.
func full(name string) string {
	if _, err := os.Stat("../../" + name); err == nil {
		return module + "/" + name
	}
	return name
}

func short(path string) string { return strings.TrimPrefix(path, module+"/") }

// below reports whether path is base or lies below it.
func below(path, base string) bool { return path == base || strings.HasPrefix(path, base+"/") }

// room is the first element of one of our packages.
func room(name string) string {
	first, _, _ := strings.Cut(name, "/")
	return first
}

func explain(pkg, why string, path []string) string {
	return fmt.Sprintf("%s: %s\n\tbecause %s", pkg, strings.Join(path, " → "), why)
}
