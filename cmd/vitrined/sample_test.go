package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/vitrine-runtime/vitrine/cmd/man"
	"github.com/vitrine-runtime/vitrine/test/golden"
)

//go:generate go test -run TestSampleConfigIsGenerated . -update

// The sample file and the manual page of the configuration hold every setting with the
// comment of its field, and nothing else; the daemon's page is what its commands say.
func TestSampleConfigIsGenerated(t *testing.T) {
	settings := documented(t)
	sample := sampleFile(settings)
	daemon := man.Page(command(), 8, "vitrine (1)", "vitrined.toml (5)")
	for name, text := range map[string]string{"vitrined.toml": sample, "man/vitrined.toml.5": samplePage(settings), "man/vitrined.8": daemon} {
		golden.Check(t, filepath.Join("..", "..", "docs", name), text)
	}
	for _, s := range settings {
		if s.comment == "" {
			t.Errorf("%s has no comment", s.key)
		}
	}
	// Every setting switched on is a file that the daemon reads.
	var on strings.Builder
	for line := range strings.Lines(sample) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") {
			line = rest
		}
		on.WriteString(line)
	}
	var c Config
	meta, err := toml.Decode(on.String(), &c)
	if err != nil || len(meta.Undecoded()) > 0 {
		t.Errorf("the sample does not read: %v, unknown %v", err, meta.Undecoded())
	}
}

// documentedSetting is one key of the file with the comment of its field.
type documentedSetting struct{ table, key, value, comment string }

// documented walks the Config as the daemon reads it.
func documented(t *testing.T) []documentedSetting {
	comments := map[string]map[string]string{} // by package directory: Type.Field
	var all []documentedSetting
	var add func(typ reflect.Type, table string)
	add = func(typ reflect.Type, table string) {
		var deeper []func()
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, ok := keyName(f)
			if !ok {
				continue
			}
			if f.Type.Kind() == reflect.Struct && !f.Type.Implements(textMarshaler) {
				below := strings.TrimPrefix(table+"."+name, ".")
				deeper = append(deeper, func() { add(f.Type, below) })
				continue
			}
			dir := strings.TrimPrefix(typ.PkgPath(), "github.com/vitrine-runtime/vitrine/")
			if dir == "main" || !strings.Contains(typ.PkgPath(), "/") || strings.HasSuffix(typ.PkgPath(), "cmd/vitrined") {
				dir = "cmd/vitrined"
			}
			if comments[dir] == nil {
				comments[dir] = fieldComments(t, filepath.Join("..", "..", dir))
			}
			all = append(all, documentedSetting{table, name, zeroTOML(f.Type), comments[dir][typ.Name()+"."+f.Name]})
		}
		for _, next := range deeper {
			next()
		}
	}
	add(reflect.TypeFor[Config](), "")
	return all
}

// fieldComments reads the comments of a package's fields. A field without one shares
// that of the field above it, whose comment names both.
func fieldComments(t *testing.T, dir string) map[string]string {
	found := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				last := ""
				for _, f := range s.Fields.List {
					if text := strings.TrimSpace(f.Doc.Text() + f.Comment.Text()); text != "" {
						last = text
					}
					for _, id := range f.Names {
						found[spec.Name.Name+"."+id.Name] = last
					}
				}
			}
			return true
		})
	}
	return found
}

// zeroTOML is the zero value as the file writes it.
func zeroTOML(typ reflect.Type) string {
	if typ.Implements(textMarshaler) || reflect.PointerTo(typ).Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()) {
		return `""`
	}
	switch typ.Kind() {
	case reflect.Bool:
		return "false"
	case reflect.Slice:
		return "[]"
	case reflect.Map:
		return "{}"
	case reflect.String:
		return `""`
	case reflect.Pointer:
		return zeroTOML(typ.Elem())
	}
	if typ.String() == "time.Duration" {
		return `"0s"`
	}
	if typ.Kind() == reflect.Float64 {
		return "0.0"
	}
	return "0"
}

func sampleFile(settings []documentedSetting) string {
	var b strings.Builder
	b.WriteString("# Settings of vitrined, each with its zero value, which stands for the default that its\n# comment tells. Copy what you change; an unknown key is an error. Generated from the\n# fields' comments by make generate.\n")
	table := ""
	for _, s := range settings {
		if s.table != table {
			table = s.table
			fmt.Fprintf(&b, "\n[%s]\n", table)
		}
		b.WriteString("\n")
		for line := range strings.Lines(s.comment + "\n") {
			b.WriteString(strings.TrimRight("# "+line, " \n") + "\n")
		}
		fmt.Fprintf(&b, "#%s = %s\n", s.key, s.value)
	}
	return b.String()
}

func samplePage(settings []documentedSetting) string {
	var b strings.Builder
	b.WriteString(".TH VITRINED.TOML 5\n.SH NAME\nvitrined.toml \\- configuration of vitrined\n.SH DESCRIPTION\n" +
		"The file /etc/vitrine/vitrined.toml is TOML; the files of vitrined.toml.d are laid over it in the order of their names, and flags over those. " +
		"vitrine config prints the values in force and where each comes from.\n.SH SETTINGS\n")
	table := ""
	escape := strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n.", "\n\\&.", "\n'", "\n\\&'")
	for _, s := range settings {
		if s.table != table {
			table = s.table
			fmt.Fprintf(&b, ".SS [%s]\n", table)
		}
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", escape.Replace(s.key), escape.Replace(s.comment))
	}
	return b.String()
}
