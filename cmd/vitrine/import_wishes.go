package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// obeyed are the annotations of CRI-O that the daemon obeys for a handler that names them.
var obeyed = []string{
	"io.kubernetes.cri-o.Devices", "io.kubernetes.cri-o.ShmSize", "io.kubernetes.cri-o.umask",
	"devices.crio.io", "shm-size.crio.io", "umask.crio.io",
}

// allowedAnnotations translates a runtime's list. CRI-O takes an entry as a prefix, here
// it is the whole key.
func allowedAnnotations(t *translation, k crioKey, path string) {
	list, _ := k.value.([]any)
	var names []any
	for _, entry := range list {
		if name := fmt.Sprint(entry); slices.Contains(obeyed, name) {
			names = append(names, name)
		} else {
			t.note(k, fmt.Sprintf("%q is not obeyed; annotations of this handler names what a runtime itself reads", name))
		}
	}
	if len(names) > 0 {
		t.set(path, names)
	}
}

// pullTimeout translates the time without progress after which a pull ends; 0 is never.
func pullTimeout(_ *crioConfig, t *translation, k crioKey) {
	text, _ := k.value.(string)
	limit, err := time.ParseDuration(text)
	switch {
	case text == "0" || err == nil && limit == 0:
		t.set("image.stall_timeout", "-1s")
	case err != nil || limit < 0:
		t.note(k, "is no duration")
	default:
		t.set("image.stall_timeout", limit.String())
	}
}

// mountsFile translates the lines HOSTPATH:CONTAINERPATH, or one path for both, of a file.
// CRI-O passes over what is not there; the daemon would not start.
func mountsFile(_ *crioConfig, t *translation, k crioKey) {
	raw, err := readSmall(fmt.Sprint(k.value))
	if err != nil {
		t.note(k, fmt.Sprintf("cannot be read: %v", err))
		return
	}
	var lines []string
	for line := range bytes.Lines(raw) {
		text, _, _ := strings.Cut(string(line), "#")
		lines = append(lines, strings.TrimSpace(text))
	}
	mounts(t, k, lines)
}

// mountsList is mountsFile for the deprecated list of the same in the configuration.
func mountsList(c *crioConfig, t *translation, k crioKey) {
	if c.text("crio.runtime.default_mounts_file", "") != "" {
		t.note(k, "has no effect beside default_mounts_file")
		return
	}
	list, _ := k.value.([]any)
	var lines []string
	for _, entry := range list {
		lines = append(lines, fmt.Sprint(entry))
	}
	mounts(t, k, lines)
}

func mounts(t *translation, k crioKey, lines []string) {
	var mounts []any
	for _, text := range lines {
		if text == "" {
			continue
		}
		source, target, both := strings.Cut(text, ":")
		if !both {
			target = source
		}
		if !filepath.IsAbs(source) || !filepath.IsAbs(target) || strings.Contains(target, ":") {
			t.note(k, fmt.Sprintf("%q is not HOSTPATH:CONTAINERPATH", text))
		} else if _, err := os.Stat(source); err != nil {
			t.note(k, fmt.Sprintf("%q is left out: %v", text, err))
		} else {
			mounts = append(mounts, source+":"+target)
		}
	}
	if len(mounts) > 0 {
		t.set("runtime.defaults.mounts", mounts)
		t.note(k, "its lines are mounted read-only, not copied")
	}
}

// readSmall reads a file of at most maxCrioFile bytes.
func readSmall(name string) ([]byte, error) {
	raw, err := os.ReadFile(name)
	if err == nil && len(raw) > maxCrioFile {
		err = fmt.Errorf("%d bytes, at most %d are read", len(raw), maxCrioFile)
	}
	return raw, err
}
