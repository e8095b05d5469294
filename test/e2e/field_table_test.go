package e2e

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// fieldTable says of every field of every request message which test of this package
// exercises it, or why none does:
//
//	Message.field  TestName
//	Message.field  - reason
//	Message.*      - reason     for all fields of a message
const fieldTable = "fields.txt"

// Every field that a request can carry is in the table, and the table claims nothing
// that is not so: a named test exists, and it or a function that it calls names the field.
func TestEveryFieldOfARequestIsExercisedOrHasItsReason(t *testing.T) {
	if _, err := os.Stat(fieldTable); err != nil {
		t.Skip("this test reads the tests' sources, which are not here")
	}
	fields := requestFields()
	table := readFieldTable(t, fieldTable)
	uses := sourceUses(t, ".", "../harness")
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		claim, listed := table[name]
		message, _, _ := strings.Cut(name, ".")
		whole, all := table[message+".*"]
		switch {
		case listed && all:
			t.Errorf("%s: listed by itself and by its message", name)
		case !listed && !all:
			t.Errorf("%s: not in %s", name, fieldTable)
		case all:
			if !isReason(whole) {
				t.Errorf("%s.*: %q is no reason, and nothing else stands for a whole message", message, whole)
			}
		case strings.HasPrefix(claim, "-"):
			if !isReason(claim) {
				t.Errorf("%s: %q is no reason", name, claim)
			}
		case uses[claim] == nil || !strings.HasPrefix(claim, "Test"):
			t.Errorf("%s: there is no test %s", name, claim)
		case !uses[claim][fields[name]]:
			t.Errorf("%s: neither %s nor what it calls names the field %s", name, claim, fields[name])
		}
	}
	for name := range table {
		message, field, _ := strings.Cut(name, ".")
		if _, known := fields[name]; !known && (field != "*" || !hasMessage(fields, message)) {
			t.Errorf("%s: no request has this field", name)
		}
	}
}

// isReason wants a dash and a few words.
func isReason(claim string) bool {
	return strings.HasPrefix(claim, "- ") && len(strings.Fields(claim)) > 4
}

func hasMessage(fields map[string]string, message string) bool {
	for name := range fields {
		if strings.HasPrefix(name, message+".") {
			return true
		}
	}
	return false
}

// requestFields walks the descriptors of both services from the requests down and
// returns every field as Message.field with its name in Go.
func requestFields() map[string]string {
	fields, seen := map[string]string{}, map[protoreflect.FullName]bool{}
	var walk func(protoreflect.MessageDescriptor)
	walk = func(m protoreflect.MessageDescriptor) {
		if seen[m.FullName()] {
			return
		}
		seen[m.FullName()] = true
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			fields[fmt.Sprintf("%s.%s", m.Name(), f.Name())] = goName(string(f.Name()))
			if !f.IsMap() && f.Message() != nil {
				walk(f.Message())
			}
		}
	}
	services := (&runtime.VersionRequest{}).ProtoReflect().Descriptor().ParentFile().Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			walk(methods.Get(j).Input())
		}
	}
	return fields
}

// goName is the generator's: words joined, each with a capital.
func goName(name string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(name, "_") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

func readFieldTable(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, claim, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		if _, twice := table[name]; twice {
			t.Errorf("%s: listed twice", name)
		}
		table[name] = strings.TrimSpace(claim)
	}
	return table
}

// sourceUses parses the tests and their harness and returns for every function the
// field names that it and the functions it calls by name mention.
func sourceUses(t *testing.T, dirs ...string) map[string]map[string]bool {
	t.Helper()
	direct := map[string]map[string]bool{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if filepath.Base(path) == "field_table_test.go" {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range file.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok || fn.Body == nil {
					continue
				}
				if direct[fn.Name.Name] == nil {
					direct[fn.Name.Name] = map[string]bool{}
				}
				ast.Inspect(fn.Body, func(n ast.Node) bool {
					if id, ok := n.(*ast.Ident); ok {
						direct[fn.Name.Name][id.Name] = true
					}
					return true
				})
			}
		}
	}
	all := map[string]map[string]bool{}
	for name := range direct {
		reached := map[string]bool{}
		var visit func(string)
		visited := map[string]bool{}
		visit = func(fn string) {
			if visited[fn] {
				return
			}
			visited[fn] = true
			for id := range direct[fn] {
				reached[id] = true
				if direct[id] != nil {
					visit(id)
				}
			}
		}
		visit(name)
		all[name] = reached
	}
	return all
}
