package main

import (
	"fmt"
	"strings"
)

// reasons are the keys that nothing is made of, and why. With those of rules they are all
// that crio.conf(5) of CRI-O 1.37 names; import_test.go compares.
var reasons = map[string]rule{
	"crio.imagestore":      dropped("not offered: images and writable layers are in one store"),
	"crio.internal_wipe":   onlyValue(true, "not offered: pods of the boot before are always removed"),
	"crio.internal_repair": onlyValue(true, "not offered: damaged layers are always repaired"),

	"crio.api.stream_tls_ca":          dropped("not offered: who opens a stream shows a token that is good for once"),
	"crio.api.tls_min_version":        onlyValue("VersionTLS12", "not offered: clients that only know TLS 1.2 are served, too"),
	"crio.api.tls_cipher_suites":      dropped("not offered: the suites are those that Go holds for safe"),
	"crio.api.grpc_max_send_msg_size": dropped("not offered: the bound is fixed; lists beyond it are told to be streamed"),
	"crio.api.grpc_max_recv_msg_size": dropped("not offered: the bound is fixed"),

	"crio.runtime.no_pivot":                       onlyValue(false, "not offered: pivot_root is always used"),
	"crio.runtime.decryption_keys_path":           dropped("not offered: encrypted images are refused"),
	"crio.runtime.additional_artifact_stores":     dropped("not offered: there is one store"),
	"crio.runtime.min_injected_gomaxprocs":        onlyValue(int64(0), "not offered: name GOMAXPROCS in runtime.defaults.env, or have Go 1.25 and later look at the limit"),
	"crio.runtime.privileged_seccomp_profile":     dropped("not offered: privileged containers have no profile"),
	"crio.runtime.blockio_config_file":            dropped("not offered"),
	"crio.runtime.blockio_reload":                 onlyValue(false, "not offered"),
	"crio.runtime.rdt_config_file":                dropped("not offered"),
	"crio.runtime.irqbalance_config_file":         dropped("not needed: interrupts are never moved"),
	"crio.runtime.irqbalance_config_restore_file": dropped("not needed: interrupts are never moved"),
	"crio.runtime.add_inheritable_capabilities":   onlyValue(false, "not offered: capabilities are not inheritable (CVE-2022-24769); pods ask for ambient ones"),
	"crio.runtime.log_filter":                     dropped("not offered: telemetry.log_level chooses"),
	"crio.runtime.log_size_max":                   onlyValue(int64(-1), "not offered: kubelet's containerLogMaxSize bounds logs, runtime.log.rate their growth"),
	"crio.runtime.bind_mount_prefix":              dropped("not offered: the daemon has to see the host's own tree"),
	"crio.runtime.read_only":                      onlyValue(false, "not offered: pods ask for it (readOnlyRootFilesystem)"),
	"crio.runtime.uid_mappings":                   dropped("not offered: pods ask for a user namespace (hostUsers: false)"),
	"crio.runtime.gid_mappings":                   dropped("not offered: pods ask for a user namespace (hostUsers: false)"),
	"crio.runtime.minimum_mappable_uid":           onlyValue(int64(-1), "not offered: kubelet chooses what pods are mapped to"),
	"crio.runtime.minimum_mappable_gid":           onlyValue(int64(-1), "not offered: kubelet chooses what pods are mapped to"),
	"crio.runtime.infra_ctr_cpuset":               dropped("not needed: there is no infra container"),
	"crio.runtime.shared_cpuset":                  dropped("not offered"),
	"crio.runtime.absent_mount_sources_to_reject": dropped("not needed: a mount whose source is absent is always refused"),
	"crio.runtime.enable_criu_support":            onlyValue(true, "not offered: checkpoints are made wherever criu is installed"),
	"crio.runtime.hostnetwork_disable_selinux":    dropped("not offered: a label that kubelet asks for is applied, and no other one"),
	"crio.runtime.disable_hostport_mapping":       onlyValue(false, "not offered: leave the portmap plugin out of the CNI configuration"),
	"crio.runtime.timezone":                       dropped("not offered: name TZ in runtime.defaults.env, or /etc/localtime in runtime.defaults.mounts"),

	"crio.checkpoint_restore.container_level_enabled": onlyValue("checkpoint_restore", "not offered: checkpoints are made wherever criu is installed"),

	"crio.image.default_transport":          onlyValue("docker://", "only registries are pulled from"),
	"crio.image.big_files_temporary_dir":    dropped("not needed: layers are unpacked as they arrive"),
	"crio.image.separate_pull_cgroup":       dropped("not offered: pulls are in the daemon's cgroup"),
	"crio.image.auto_reload_registries":     onlyValue(true, "not offered: registries.conf is read anew when it has changed"),
	"crio.image.oci_artifact_mount_support": dropped("volumes are images; an artifact that is none is refused"),

	"crio.network.cni_status_grace_period": dropped("not needed: the network's status is asked for all the time"),

	"crio.stats.stats_collection_period": onlyValue(int64(0), "not needed: figures are read when they are asked for"),
	"crio.stats.collection_period":       onlyValue(int64(0), "not needed: figures are read when they are asked for"),
	"crio.stats.included_pod_metrics":    dropped("not needed: all families are served"),

	"crio.nri.nri_disable_connections": onlyValue(false, "not offered: whoever may open the socket may be a plugin"),
}

// reasonFor answers for the tables whose keys are anybody's to name.
func reasonFor(k crioKey) string {
	switch {
	case strings.HasPrefix(k.path, "crio.runtime.workloads."):
		return "not offered: who may set a workload's annotation would choose what is allowed; runtime.annotations and a handler's annotations hold for all pods, limits are kubelet's"
	case strings.HasPrefix(k.path, "crio.nri.default_validator."):
		if k.value == false {
			return ""
		}
		return "not offered: plugins are not judged by another one; runtime.annotations, devices and profiles are checked as without them"
	}
	return "no equivalent: crio.conf(5) does not name it"
}

// translateHandlerReason is translateHandler for what nothing is made of.
func translateHandlerReason(t *translation, k crioKey, key string) {
	text := map[string]string{
		"runtime_root":           "not needed: runtimes keep their state below the state directory",
		"monitor_path":           "not needed: vitrine-monitor is part of the runtime",
		"monitor_env":            "not needed: vitrine-monitor is part of the runtime",
		"monitor_exec_cgroup":    "not needed: no monitor is started for an exec session",
		"container_min_memory":   "not offered for one handler: runtime.defaults.min_memory is for all",
		"platform_runtime_paths": "not offered: images are of the node's own platform",
		"default_annotations":    "not offered: kubelet's annotations are passed, and no other ones",
		"no_sync_log":            "not needed: logs are not synced",
		"stream_websockets":      "not needed: always on",
		"seccomp_profile":        "not offered for one handler: runtime.seccomp_profile is for all",
	}[key]
	if text == "" {
		text = fmt.Sprintf("no equivalent: crio.conf(5) does not name %q for a runtime", key)
	}
	t.note(k, text)
}
