package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
)

func importCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import DIRECTORY",
		Short: "Translate a CRI-O configuration to vitrined's",
		Long: `Translate DIRECTORY/crio.conf and its drop-ins, for example /etc/crio, to the daemon's
configuration file on standard output. What has no equivalent, or another meaning, is
told on standard error, one line each, with file and line.

registries.conf, policy.json, certs.d and CNI configurations need no translation: the
same files are read.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			source, err := readCrio(args[0])
			if err != nil {
				return err
			}
			t := source.translate()
			for _, note := range t.notes {
				fmt.Fprintln(cmd.ErrOrStderr(), note)
			}
			return t.write(cmd.OutOrStdout())
		},
	}
}

// crioKey is one setting and where it stands. A later file's replaces an earlier one's.
type crioKey struct {
	path  string // crio.runtime.default_runtime
	value any
	file  string
	line  int // 0 when it was not found
}

// crioConfig is a tree of configuration files, merged.
type crioConfig struct{ keys map[string]crioKey }

// maxCrioFile bounds one configuration file, in bytes.
const maxCrioFile = 1 << 20

// readCrio reads crio.conf, which may be absent, and the drop-ins in the order of their
// names, as CRI-O does.
func readCrio(dir string) (*crioConfig, error) {
	drops, err := os.ReadDir(filepath.Join(dir, "crio.conf.d"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files := []string{"crio.conf"}
	for _, d := range drops {
		if !d.IsDir() {
			files = append(files, filepath.Join("crio.conf.d", d.Name()))
		}
	}
	c := &crioConfig{keys: map[string]crioKey{}}
	found := false
	for _, name := range files {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if name == "crio.conf" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(raw) > maxCrioFile {
			return nil, fmt.Errorf("%s has %d bytes, at most %d are read", name, len(raw), maxCrioFile)
		}
		if err := c.read(name, raw); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		found = true
	}
	if !found {
		return nil, fmt.Errorf("no crio.conf and no crio.conf.d in %s", dir)
	}
	return c, nil
}

func (c *crioConfig) read(name string, raw []byte) error {
	var tree map[string]any
	if _, err := toml.Decode(string(raw), &tree); err != nil {
		return err
	}
	lines := keyLines(raw)
	var walk func(prefix string, table map[string]any)
	walk = func(prefix string, table map[string]any) {
		for key, value := range table {
			path := strings.TrimPrefix(prefix+"."+key, ".")
			if sub, ok := value.(map[string]any); ok && !isMapping(key) {
				walk(path, sub)
				continue
			}
			c.keys[path] = crioKey{path: path, value: value, file: name, line: lines[path]}
		}
	}
	walk("", tree)
	return nil
}

// isMapping: the value is a table whose keys are no settings.
func isMapping(key string) bool {
	return key == "default_annotations" || key == "platform_runtime_paths"
}

var (
	tableLine = regexp.MustCompile(`^\s*\[\s*([^\[\]]+?)\s*\]`)
	keyLine   = regexp.MustCompile(`^\s*([A-Za-z0-9_."'-]+)\s*=`)
)

// keyLines finds the line of each key; for people, so it need not understand all of TOML.
func keyLines(raw []byte) map[string]int {
	lines := map[string]int{}
	table, number := "", 0
	for line := range bytes.Lines(raw) {
		number++
		if m := tableLine.FindSubmatch(line); m != nil {
			table = strings.NewReplacer(`"`, "", `'`, "").Replace(string(m[1]))
			lines[table] = number
		} else if m := keyLine.FindSubmatch(line); m != nil {
			lines[strings.TrimPrefix(table+"."+strings.Trim(string(m[1]), `"'`), ".")] = number
		}
	}
	return lines
}

// translation is what came of it: settings by table, and what could not be said.
type translation struct {
	tables map[string]map[string]any
	notes  []string
}

// set puts a value at a dotted path of the daemon's file.
func (t *translation) set(path string, value any) {
	dot := strings.LastIndexByte(path, '.')
	t.setIn(path[:max(dot, 0)], path[dot+1:], value)
}

// setIn puts a value into a table under a key that may have dots.
func (t *translation) setIn(table, key string, value any) {
	if t.tables[table] == nil {
		t.tables[table] = map[string]any{}
	}
	t.tables[table][key] = value
}

func (t *translation) note(k crioKey, text string) {
	t.notes = append(t.notes, fmt.Sprintf("%s:%d: %s: %s", k.file, k.line, k.path, text))
}

// translate goes through the keys in the order of files and lines.
func (c *crioConfig) translate() *translation {
	t := &translation{tables: map[string]map[string]any{}}
	all := slices.SortedFunc(maps.Values(c.keys), func(a, b crioKey) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line), cmp.Compare(a.path, b.path))
	})
	for _, k := range all {
		if empty(k.value) {
			continue // CRI-O's default, or none
		}
		if rule, ok := rules[k.path]; ok {
			rule(c, t, k)
		} else if rule, ok := reasons[k.path]; ok {
			rule(c, t, k)
		} else if handler, key, ok := handlerKey(k.path); ok {
			translateHandler(c, t, k, handler, key)
		} else if text := reasonFor(k); text != "" {
			t.note(k, text)
		}
	}
	c.completeHandlers(t)
	return t
}

func empty(value any) bool {
	switch v := value.(type) {
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// handlerKey splits crio.runtime.runtimes.NAME.KEY.
func handlerKey(path string) (handler, key string, ok bool) {
	rest, ok := strings.CutPrefix(path, "crio.runtime.runtimes.")
	dot := strings.LastIndexByte(rest, '.')
	if !ok || dot < 0 {
		return "", "", false
	}
	return rest[:dot], rest[dot+1:], true
}

// write prints the settings as TOML, tables and keys sorted.
func (t *translation) write(w interface{ Write([]byte) (int, error) }) error {
	var out bytes.Buffer
	for _, table := range slices.Sorted(maps.Keys(t.tables)) {
		if table != "" {
			fmt.Fprintf(&out, "\n[%s]\n", table)
		}
		if err := toml.NewEncoder(&out).Encode(t.tables[table]); err != nil {
			return fmt.Errorf("write [%s]: %w", table, err)
		}
	}
	_, err := w.Write(bytes.TrimPrefix(out.Bytes(), []byte("\n")))
	return err
}
