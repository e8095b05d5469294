package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A rule translates one key of CRI-O, or says why it cannot.
type rule func(*crioConfig, *translation, crioKey)

// same is for settings that mean the same under another name.
func same(path string) rule {
	return func(_ *crioConfig, t *translation, k crioKey) { t.set(path, k.value) }
}

// dropped is for settings that need no equivalent, or have none; text says why.
func dropped(text string) rule {
	return func(_ *crioConfig, t *translation, k crioKey) { t.note(k, text) }
}

// withSwitch is for settings that are read together with the switch at path; without it
// they had no effect.
func withSwitch(path string) rule {
	return func(c *crioConfig, t *translation, k crioKey) {
		if c.keys[path].value != true {
			t.note(k, "has no effect without "+path+" = true")
		}
	}
}

// rules are the keys that are known. The daemon's tests load what they make of the
// tree in testdata, which has every key that is translated.
var rules = map[string]rule{
	"crio.root":                 dropped("images are kept in vitrine's own storage and pulled again; set root to choose its place"),
	"crio.runroot":              dropped("set state to choose the place of what does not outlive a boot"),
	"crio.storage_driver":       onlyValue("overlay", "only overlay is offered"),
	"crio.storage_option":       same("image.storage_options"),
	"crio.log_dir":              dropped("logs are where kubelet asks for them"),
	"crio.version_file":         dropped("not needed: a reboot is told by the boot id"),
	"crio.version_file_persist": dropped("not needed: a reboot is told by the boot id"),
	"crio.clean_shutdown_file":  dropped("not needed: damaged layers are found and repaired"),

	"crio.api.listen":              same("socket"),
	"crio.api.stream_address":      streamAddress,
	"crio.api.stream_port":         streamPort,
	"crio.api.stream_idle_timeout": same("cri.stream.idle_timeout"),
	"crio.api.stream_tls_cert":     streamTLS("cri.stream.cert_file"),
	"crio.api.stream_tls_key":      streamTLS("cri.stream.key_file"),
	"crio.api.stream_enable_tls":   streamTLSOn,

	"crio.runtime.default_runtime":                        same("runtime.default_handler"),
	"crio.runtime.default_capabilities":                   same("runtime.defaults.capabilities"),
	"crio.runtime.default_ulimits":                        same("runtime.defaults.ulimits"),
	"crio.runtime.default_env":                            same("runtime.defaults.env"),
	"crio.runtime.pids_limit":                             positive("runtime.defaults.pids_limit"),
	"crio.runtime.apparmor_profile":                       apparmor,
	"crio.runtime.device_ownership_from_security_context": same("runtime.defaults.device_ownership"),
	"crio.runtime.seccomp_profile":                        same("runtime.seccomp_profile"),
	"crio.runtime.hooks_dir":                              firstOf("runtime.hooks_dir"),
	"crio.runtime.cdi_spec_dirs":                          same("runtime.cdi_spec_dirs"),
	"crio.runtime.cgroup_manager":                         same("cgroup.driver"),
	"crio.runtime.log_level":                              logLevel,
	"crio.runtime.conmon":                                 dropped("not needed: vitrine-monitor is part of the runtime"),
	"crio.runtime.conmon_cgroup":                          conmonCgroup,
	"crio.runtime.conmon_env":                             dropped("not needed: vitrine-monitor is part of the runtime"),
	"crio.runtime.pinns_path":                             dropped("not needed: namespaces are pinned by the daemon"),
	"crio.runtime.namespaces_dir":                         dropped("namespaces are pinned below the state directory"),
	"crio.runtime.drop_infra_ctr":                         dropped("not needed: there is no infra container"),
	"crio.runtime.enable_pod_events":                      dropped("not needed: events are always on"),
	"crio.runtime.container_exits_dir":                    dropped("not needed: exit records lie below the state directory"),
	"crio.runtime.container_attach_socket_dir":            dropped("not needed: sockets lie below the state directory"),
	"crio.runtime.ctr_stop_timeout":                       dropped("the time comes with each request of kubelet"),
	"crio.runtime.selinux":                                dropped("labels are applied where the kernel has SELinux switched on"),
	"crio.runtime.container_min_memory":                   bytesOf("runtime.defaults.min_memory"),
	"crio.runtime.default_sysctls":                        sysctls,
	"crio.runtime.default_mounts_file":                    mountsFile,
	"crio.runtime.default_mounts":                         mountsList,
	"crio.runtime.log_to_journald":                        same("runtime.log.journald"),
	"crio.runtime.additional_devices":                     same("runtime.defaults.devices"),
	"crio.runtime.allowed_devices":                        same("runtime.allowed_devices"),

	"crio.image.global_auth_file":      same("image.auth_file"),
	"crio.image.signature_policy":      same("image.signature_policy"),
	"crio.image.signature_policy_dir":  same("image.signature_policy_dir"),
	"crio.image.pinned_images":         same("image.pinned"),
	"crio.image.pause_image":           dropped("not needed: there is no pause image"),
	"crio.image.pause_image_auth_file": dropped("not needed: there is no pause image"),
	"crio.image.pause_command":         dropped("not needed: there is no pause image"),
	"crio.image.pull_progress_timeout": pullTimeout,
	"crio.image.short_name_mode":       dropped("short-name-mode of registries.conf is obeyed"),
	"crio.image.registries":            dropped("unqualified-search-registries of registries.conf is obeyed"),
	"crio.image.insecure_registries":   dropped("insecure in registries.conf is obeyed"),
	"crio.image.image_volumes":         onlyValue("mkdir", "volumes of images are directories of the container (mkdir)"),

	"crio.network.network_dir":         same("network.conf_dir"),
	"crio.network.plugin_dirs":         same("network.bin_dirs"),
	"crio.network.cni_default_network": dropped("the first configuration by name is used"),

	"crio.metrics.enable_metrics":     metricsListen,
	"crio.metrics.metrics_port":       metricsAddress,
	"crio.metrics.metrics_host":       metricsAddress,
	"crio.metrics.metrics_socket":     withSwitch("crio.metrics.enable_metrics"),
	"crio.metrics.metrics_cert":       same("metrics_cert_file"),
	"crio.metrics.metrics_key":        same("metrics_key_file"),
	"crio.metrics.metrics_collectors": dropped("not needed: all metrics are on"),

	"crio.tracing.enable_tracing":                    tracing,
	"crio.tracing.tracing_endpoint":                  withSwitch("crio.tracing.enable_tracing"),
	"crio.tracing.tracing_sampling_rate_per_million": withSwitch("crio.tracing.enable_tracing"),

	"crio.nri.enable_nri":                      nriSocket,
	"crio.nri.nri_listen":                      nriListen,
	"crio.nri.nri_plugin_dir":                  same("nri.plugin_dir"),
	"crio.nri.nri_plugin_config_dir":           same("nri.plugin_config_dir"),
	"crio.nri.nri_plugin_request_timeout":      milliseconds("nri.request_timeout_ms"),
	"crio.nri.nri_plugin_registration_timeout": milliseconds("nri.registration_timeout_ms"),
}

// quoteKey is a key of TOML, bare where it can be.
func quoteKey(name string) string {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == "" && name != "" {
		return name
	}
	return strconv.Quote(name)
}

// onlyValue is for a choice of which one value is offered.
func onlyValue(value any, otherwise string) rule {
	return func(_ *crioConfig, t *translation, k crioKey) {
		if k.value != value {
			t.note(k, otherwise)
		}
	}
}

// positive is same for numbers of which others than positive ones mean no bound.
func positive(path string) rule {
	return func(_ *crioConfig, t *translation, k crioKey) {
		if n, ok := k.value.(int64); ok && n > 0 {
			t.set(path, n)
		}
	}
}

// bytesOf translates a size as CRI-O writes it: all units are powers of 1024.
func bytesOf(path string) rule {
	return func(_ *crioConfig, t *translation, k crioKey) {
		text, _ := k.value.(string)
		number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
		unit := strings.ToLower(strings.TrimSpace(text[len(number):]))
		shift, ok := map[string]uint{"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}[strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i")]
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || !ok || n <= 0 || n > 1<<62>>shift {
			t.note(k, "is no size")
			return
		}
		t.set(path, n<<shift)
	}
}

// sysctls turns NAME=VALUE lines into a table.
func sysctls(_ *crioConfig, t *translation, k crioKey) {
	list, _ := k.value.([]any)
	for _, entry := range list {
		name, value, ok := strings.Cut(fmt.Sprint(entry), "=")
		if name, value = strings.TrimSpace(name), strings.TrimSpace(value); !ok || name == "" {
			t.note(k, fmt.Sprintf("%q is not NAME=VALUE", entry))
			continue
		}
		t.setIn("network.sysctls", name, value)
	}
}

func firstOf(path string) rule {
	return func(_ *crioConfig, t *translation, k crioKey) {
		list, ok := k.value.([]any)
		if !ok {
			t.note(k, "is no list")
			return
		}
		t.set(path, list[0])
		if len(list) > 1 {
			t.note(k, "only the first directory is taken")
		}
	}
}

func milliseconds(path string) rule {
	return func(_ *crioConfig, t *translation, k crioKey) {
		text, _ := k.value.(string)
		d, err := time.ParseDuration(text)
		if err != nil {
			t.note(k, "is no duration")
			return
		}
		t.set(path, d.Milliseconds())
	}
}

func logLevel(_ *crioConfig, t *translation, k crioKey) {
	level, ok := map[any]string{"trace": "debug", "debug": "debug", "info": "info", "warn": "warn", "warning": "warn", "error": "error", "fatal": "error", "panic": "error"}[k.value]
	if !ok {
		t.note(k, "unknown level")
		return
	}
	t.set("telemetry.log_level", level)
}

func apparmor(_ *crioConfig, t *translation, k crioKey) {
	if k.value == "crio-default" {
		t.note(k, "not needed: the daemon loads a profile of its own, vitrine-default")
		return
	}
	t.set("runtime.defaults.apparmor_profile", k.value)
}

// text is another key's value, the fallback when it is not set.
func (c *crioConfig) text(path, fallback string) string {
	if k, ok := c.keys[path]; ok && !empty(k.value) {
		return fmt.Sprint(k.value)
	}
	return fallback
}
