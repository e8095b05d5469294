package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// hookFile is one file of the hooks directory, in the 1.0.0 format of oci-hooks(5).
type hookFile struct {
	Version string     `json:"version"`
	Hook    specs.Hook `json:"hook"`
	When    hookWhen   `json:"when"`
	Stages  []string   `json:"stages"`
}

// hookWhen says which containers get the hook: those for which every condition
// that is set holds.
type hookWhen struct {
	Always        *bool             `json:"always"`
	Annotations   map[string]string `json:"annotations"` // patterns of key and value
	Commands      []string          `json:"commands"`    // patterns of the executable
	HasBindMounts *bool             `json:"hasBindMounts"`
}

// readHooks reads every *.json of dir, in the order of their names. An empty dir
// or one that does not exist holds none; a file that cannot be understood is an
// error, because a hook may be there for safety.
func readHooks(dir string) ([]hookFile, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []hookFile
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		raw, err := ReadBounded(filepath.Join(dir, e.Name()), 1<<20)
		if err != nil {
			return nil, fmt.Errorf("hook %s: %w", e.Name(), err)
		}
		var file hookFile
		if err := json.Unmarshal(raw, &file); err != nil {
			return nil, fmt.Errorf("hook %s: %w", e.Name(), err)
		}
		if err := file.check(); err != nil {
			return nil, fmt.Errorf("hook %s: %w", e.Name(), err)
		}
		all = append(all, file)
	}
	return all, nil
}

func (f hookFile) check() error {
	if f.Version != "1.0.0" {
		return fmt.Errorf("version %q, this build knows 1.0.0", f.Version)
	}
	if !filepath.IsAbs(f.Hook.Path) {
		return fmt.Errorf("hook path %q is not absolute", f.Hook.Path)
	}
	for _, pattern := range f.When.Commands {
		if _, err := regexp.Compile(pattern); err != nil {
			return err
		}
	}
	for key, value := range f.When.Annotations {
		if _, err := regexp.Compile(key); err != nil {
			return err
		}
		if _, err := regexp.Compile(value); err != nil {
			return err
		}
	}
	known := []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
	for _, stage := range f.Stages {
		if !slices.Contains(known, stage) {
			return fmt.Errorf("stage %q is none of %s", stage, strings.Join(known, ", "))
		}
	}
	return nil
}

// Hooks returns those of the administrator's hooks that fit the specification,
// nil when none does.
func (h Host) Hooks(s *specs.Spec) *specs.Hooks {
	found, any := &specs.Hooks{}, false
	for _, f := range h.hooks {
		if !f.When.fits(s) {
			continue
		}
		for _, stage := range f.Stages {
			list := map[string]*[]specs.Hook{
				"prestart": &found.Prestart, "createRuntime": &found.CreateRuntime, "createContainer": &found.CreateContainer, //nolint:staticcheck // prestart is deprecated and still used
				"startContainer": &found.StartContainer, "poststart": &found.Poststart, "poststop": &found.Poststop,
			}[stage]
			*list, any = append(*list, f.Hook), true
		}
	}
	if !any {
		return nil
	}
	return found
}

func (w hookWhen) fits(s *specs.Spec) bool {
	conditions := 0
	if w.Always != nil {
		if conditions++; !*w.Always {
			return false
		}
	}
	if w.HasBindMounts != nil {
		bind := slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "bind" })
		if conditions++; bind != *w.HasBindMounts {
			return false
		}
	}
	if len(w.Commands) > 0 {
		conditions++
		if len(s.Process.Args) == 0 || !slices.ContainsFunc(w.Commands, func(p string) bool { return regexp.MustCompile(p).MatchString(s.Process.Args[0]) }) {
			return false
		}
	}
	for key, value := range w.Annotations {
		conditions++
		fits := false
		for k, v := range s.Annotations {
			fits = fits || regexp.MustCompile(key).MatchString(k) && regexp.MustCompile(value).MatchString(v)
		}
		if !fits {
			return false
		}
	}
	return conditions > 0
}
