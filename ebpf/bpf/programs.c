// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// The programs that are always attached, one header per family, in one object so that
// they share their maps. They observe; none changes what the kernel does.
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "records.h"
#include "track.h"
#include "oom.h"
#include "start.h"
#include "denial.h"
#include "life.h"
#include "signal.h"

char __license[] SEC("license") = "Dual BSD/GPL";

// The generator takes its Go types from here.
const struct record *unused_record __attribute__((unused));
const struct container *unused_container __attribute__((unused));
const struct kill *unused_kill __attribute__((unused));
const struct scene *unused_scene __attribute__((unused));
const struct setting *unused_setting __attribute__((unused));
const enum bounds unused_bounds __attribute__((unused));
const enum stat unused_stat __attribute__((unused));
const enum scene_flag unused_scene_flag __attribute__((unused));
const struct last_key *unused_last_key __attribute__((unused));
const enum kind unused_kind __attribute__((unused));
const enum flag unused_flag __attribute__((unused));
const enum level unused_level __attribute__((unused));
const struct denial_key *unused_denial_key __attribute__((unused));
const struct denial *unused_denial __attribute__((unused));
const struct denial_use *unused_denial_use __attribute__((unused));
const struct start *unused_start __attribute__((unused));
const struct listener *unused_listener __attribute__((unused));
const enum layer unused_layer __attribute__((unused));
