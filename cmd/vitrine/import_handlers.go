package main

import (
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Types of a runtime of CRI-O: an OCI runtime, a containerd shim, and conmon-rs.
const (
	typeOCI = "oci"
	typeVM  = "vm"
)

// typeOf is what a handler's table, or the default's that it inherits, says it is.
func (c *crioConfig) typeOf(handler string) string {
	return c.handlerText(handler, "runtime_type", typeOCI)
}

// handlerText is a key of a runtime's table; of the default runtime's where the table says so.
func (c *crioConfig) handlerText(handler, key, fallback string) string {
	if c.keys["crio.runtime.runtimes."+handler+".inherit_default_runtime"].value == true {
		handler = c.text("crio.runtime.default_runtime", "crun")
	}
	return c.text("crio.runtime.runtimes."+handler+"."+key, fallback)
}

// offered is false for a handler of a type that is told of, and left out.
func (c *crioConfig) offered(handler string) bool {
	if c.typeOf(handler) == typeVM {
		return filepath.IsAbs(c.handlerText(handler, "runtime_path", ""))
	}
	return c.typeOf(handler) == typeOCI
}

// translateHandler translates a key of one runtime. Where its program is, completeHandlers says.
func translateHandler(c *crioConfig, t *translation, k crioKey, handler, key string) {
	table := "runtime.handlers." + quoteKey(handler)
	switch key {
	case "runtime_path", "inherit_default_runtime":
	case "runtime_type":
		if !c.offered(handler) {
			t.note(k, fmt.Sprintf("handler is left out: offered are type %q, and type %q with a shim's absolute runtime_path", typeOCI, typeVM))
		}
	case "runtime_config_path":
		if c.typeOf(handler) != typeVM {
			t.note(k, "is for runtimes of type vm")
			return
		}
		t.set(table+".config_path", k.value)
	case "allowed_annotations":
		if c.offered(handler) {
			allowedAnnotations(t, k, table+".annotations")
		}
	case "container_create_timeout":
		seconds, _ := k.value.(int64)
		before, _ := t.tables["runtime"]["create_timeout_seconds"].(int64)
		t.set("runtime.create_timeout_seconds", max(seconds, before))
		t.note(k, "applies to all handlers, of which the longest counts")
	case "privileged_without_host_devices":
		if k.value == true && c.offered(handler) {
			t.set(table+".privileged_without_host_devices", true)
		}
	case "monitor_cgroup":
		t.set("runtime.monitor_cgroup", k.value)
		t.note(k, "applies to all handlers")
	default:
		translateHandlerReason(t, k, key)
	}
}

// conmonCgroup is the old name of a runtime's monitor_cgroup.
func conmonCgroup(c *crioConfig, t *translation, k crioKey) {
	for path, key := range c.keys {
		if _, name, ok := handlerKey(path); ok && name == "monitor_cgroup" && !empty(key.value) {
			t.note(k, "has no effect beside a runtime's monitor_cgroup")
			return
		}
	}
	t.set("runtime.monitor_cgroup", k.value)
}

// completeHandlers says of each handler, and of the default one, where its program is: as
// its table does, else as CRI-O finds it, by its name in PATH.
func (c *crioConfig) completeHandlers(t *translation) {
	names := map[string]bool{}
	if name := c.text("crio.runtime.default_runtime", ""); name != "" {
		names[name] = true
	}
	for path := range c.keys {
		if handler, _, ok := handlerKey(path); ok {
			names[handler] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		table := "runtime.handlers." + quoteKey(name)
		program := c.handlerText(name, "runtime_path", "")
		switch {
		case !c.offered(name): // told at its type
		case c.typeOf(name) == typeVM:
			t.set(table+".shim", program)
		case program == "":
			program = name
			if found, err := exec.LookPath(name); err == nil && !strings.Contains(name, "/") {
				program = found
			} else {
				t.notes = append(t.notes, fmt.Sprintf("crio.runtime.runtimes.%s: has no runtime_path, and there is no %s in PATH", name, name))
			}
			fallthrough
		default:
			t.set(table+".path", program)
		}
	}
}
