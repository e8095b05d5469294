/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * Which containers are watched, and finding out for the running task in a few
 * nanoseconds: every syscall of every process of the host pays for it.
 */
#pragma once

enum bound {
	/* Containers watched at a time; slot 0 is nobody's. */
	SLOTS = 17,
	/* Syscall numbers; the last one stands for all others and for 32-bit programs'. */
	SYSCALLS = 512,
	OTHERS = SYSCALLS - 1,
	/* Calls that the flight recorder holds. */
	FLIGHT = 256,
	/* Buckets of a histogram: [2^i, 2^(i+1)) nanoseconds, the last one is open. */
	BUCKETS = 36,
};

enum watching {
	WATCH_LATENCY = 1,
	WATCH_DENIALS = 2,
	WATCH_FLIGHT = 4,
	/* When a connection was first accepted. */
	WATCH_ACCEPT = 8,
	/* These need a program at the beginning of syscalls. The flight recorder needs it to
	 * know what a thread ends in, where the registers do not tell: see unfinished. */
#if defined(__TARGET_ARCH_x86)
	WATCH_ENTRY = WATCH_LATENCY | WATCH_DENIALS,
#else
	WATCH_ENTRY = WATCH_LATENCY | WATCH_DENIALS | WATCH_FLIGHT,
#endif
};

/* What user space wants. */
struct want {
	__u32 flags;
	/* Of this many syscalls plus one the latency of one is taken; one less than a power of 2. */
	__u32 sample;
	/* PID 1 was the user's program before the watch began. */
	__u32 started;
};

/* What the programs found. User space writes it only before the watch begins. */
struct watch {
	__u64 cgroup;
	__u32 slot;
	/* PID 1 has become the user's program; what came before is the launcher's. */
	__u32 started;
	/* PID 1 has ended, with this status as wait(2) reports it. */
	__u32 ended;
	__s32 status;
	/* Calls recorded so far. */
	__u64 calls;
	/* When an accept first returned a connection, by the clock of the boot; 0: not yet. */
	__u64 accepted;
};

struct member {
	__u64 serial;
	__u32 slot;
	__u32 epoch;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct watch);
} watches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct want);
} wants SEC(".maps");

/* The watched cgroups and their slots. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLOTS);
	__type(key, __u64);
	__type(value, __u32);
} watched SEC(".maps");

#define MEMBERS 1024

/* What the search through a cgroup's ancestors found: slot 0 if it is not watched. The
 * place is that of its serial number, which is never given twice; of two with the same
 * place the later takes it. An array costs a third of a hash, and one per CPU is never
 * read half written. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MEMBERS);
	__type(key, __u32);
	__type(value, struct member);
} members SEC(".maps");

/* Entries of members from before the last change of watched are not believed. */
volatile __u32 epoch = 1;

static __always_inline void search(struct cgroup_subsys_state *css, struct member *m, __u64 serial)
{
	__u32 *slot = 0;
	int i;

	m->epoch = epoch;
	m->serial = serial;
	m->slot = 0;
	for (i = 0; i < DEPTH; i++) {
		__u64 id;

		if (!css)
			return;
		id = css_id(css);
		slot = bpf_map_lookup_elem(&watched, &id);
		if (slot) {
			m->slot = *slot;
			return;
		}
		css = BPF_CORE_READ(css, parent);
	}
}

/* These loads are checked by the verifier and cost one instruction each. */
static __always_inline struct watch *watch_of(struct task_struct *t)
{
	unsigned int i = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	struct css_set *set = t->cgroups;
	struct cgroup_subsys_state **base = __builtin_preserve_access_index(&set->subsys[0]);
	struct cgroup_subsys_state *css = base[i];
	__u64 serial = css->serial_nr;
	__u32 slot = serial & (MEMBERS - 1);
	struct member *m = bpf_map_lookup_elem(&members, &slot);

	if (!m)
		return 0;
	if (m->serial != serial || m->epoch != epoch)
		search(css, m, serial);
	slot = m->slot;
	if (!slot)
		return 0;
	return bpf_map_lookup_elem(&watches, &slot);
}

static __always_inline struct want *want_of(struct watch *w)
{
	__u32 slot = w->slot;

	return bpf_map_lookup_elem(&wants, &slot);
}

static __always_inline bool is_init(struct watch *w, struct task_struct *t)
{
	struct container *c = bpf_map_lookup_elem(&containers, &w->cgroup);

	if (c && c->init)
		return BPF_CORE_READ(t, tgid) == c->init;
	return ns_tgid(t) == 1;
}
