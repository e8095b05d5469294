// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// The programs that see every syscall of the host, in an object of their own: they are
// loaded and attached while some container is watched, and never pinned. They share the
// ledger and the containers with the programs that are always there.
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "records.h"
#include "track.h"
#include "ledger.h"
#include "watch.h"
#include "syscalls.h"

char __license[] SEC("license") = "Dual BSD/GPL";

// The generator takes its Go types from here.
const struct watch *unused_watch __attribute__((unused));
const struct want *unused_want __attribute__((unused));
const struct call *unused_call __attribute__((unused));
const struct tally *unused_tally __attribute__((unused));
const struct latency *unused_latency __attribute__((unused));
const struct latency_key *unused_latency_key __attribute__((unused));
const enum watching unused_watching __attribute__((unused));
const enum bound unused_bound __attribute__((unused));
