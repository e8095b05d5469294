/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * Which container a task belongs to, and how a record leaves the kernel.
 */
#pragma once

/* Levels of cgroups looked at; kubelet's pods are four or five deep. */
#define DEPTH 10

/* The memory cgroup's state is the first member of struct mem_cgroup, so the two
 * pointers are one (container_of in mem_cgroup_from_css, include/linux/memcontrol.h). */
static __always_inline struct cgroup_subsys_state *memory_css(struct task_struct *t)
{
	struct css_set *set = BPF_CORE_READ(t, cgroups);
	/* The index is a constant of the running kernel, but a variable to the
	 * compiler, and CO-RE relocates no variable index: the address is computed. */
	unsigned int i = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	struct cgroup_subsys_state **base, *css = 0;

	if (!set)
		return 0;
	base = __builtin_preserve_access_index(&set->subsys[0]);
	bpf_probe_read_kernel(&css, sizeof(css), base + i);
	return css;
}

static __always_inline __u64 css_id(struct cgroup_subsys_state *css)
{
	return BPF_CORE_READ(css, cgroup, kn, id);
}

/* As memory_css, for a task that the verifier knows: a tracepoint's argument or the
 * running one. These loads are checked by it and cost one instruction each. */
static __always_inline struct cgroup_subsys_state *memory_of(struct task_struct *t)
{
	unsigned int i = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	struct css_set *set = t->cgroups;
	struct cgroup_subsys_state **base = __builtin_preserve_access_index(&set->subsys[0]);

	return base[i];
}

/* The container that such a task belongs to, and its id. A host's process pays for this
 * at each of its execs and ends, so it is plain loads to the last. */
static __always_inline struct container *find(struct task_struct *t, __u64 *id)
{
	struct cgroup_subsys_state *css = memory_of(t);
	struct container *c;
	int i;

	for (i = 0; i < DEPTH; i++) {
		if (!css)
			return 0;
		*id = css->cgroup->kn->id;
		c = bpf_map_lookup_elem(&containers, id);
		if (c)
			return c;
		css = css->parent;
	}
	return 0;
}

/* The same for a task that is only an address. */
static __always_inline struct container *find_below(struct cgroup_subsys_state *css, __u64 *id)
{
	struct container *c;
	int i;

	for (i = 0; i < DEPTH; i++) {
		if (!css)
			return 0;
		*id = css_id(css);
		c = bpf_map_lookup_elem(&containers, id);
		if (c)
			return c;
		css = BPF_CORE_READ(css, parent);
	}
	return 0;
}

/* The process id as the innermost pid namespace of the task has it. */
static __always_inline __u32 ns_tgid(struct task_struct *t)
{
	struct pid *p = BPF_CORE_READ(t, group_leader, thread_pid);
	struct upid *base, n = {};
	unsigned int level;

	if (!p)
		return 0;
	level = BPF_CORE_READ(p, level);
	if (level > 32)
		return 0;
	base = __builtin_preserve_access_index(&p->numbers[0]);
	bpf_probe_read_kernel(&n.nr, sizeof(n.nr),
			      (void *)base + level * bpf_core_type_size(struct upid));
	return n.nr;
}

static __always_inline void describe(struct task *d, struct task_struct *t)
{
	struct cgroup_subsys_state *css = memory_css(t);

	d->pid = BPF_CORE_READ(t, pid);
	d->tgid = BPF_CORE_READ(t, tgid);
	d->ns_tgid = ns_tgid(t);
	d->uid = BPF_CORE_READ(t, real_cred, uid.val);
	d->cgroup = css ? css_id(css) : 0;
	BPF_CORE_READ_INTO(&d->comm, t, comm);
}

static __always_inline void count_lost(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&lost, &what);

	if (n)
		(*n)++;
}

/* A tracepoint's program does not nest on its CPU, so one record per kind and CPU is enough. */
static __always_inline struct record *begin(__u32 kind, __u64 cgroup, struct container *c, struct task_struct *t)
{
	struct record *r = bpf_map_lookup_elem(&scratch, &kind);

	if (!r)
		return 0;
	__builtin_memset(r, 0, sizeof(*r));
	r->kind = kind;
	r->time = bpf_ktime_get_boot_ns();
	r->cgroup = cgroup;
	describe(&r->task, t);
	if (c->init ? r->task.tgid == c->init : r->task.ns_tgid == 1)
		r->flags |= FLAG_INIT;
	return r;
}

/* remember replaces the record as a whole: a reader never sees half of one. */
static __always_inline void remember(struct record *r)
{
	struct last_key key = { .cgroup = r->cgroup, .kind = r->kind };

	if (bpf_map_update_elem(&last, &key, r, BPF_ANY))
		count_lost(0);
	if (!(r->flags & FLAG_INIT))
		return;
	key.init = 1;
	if (bpf_map_update_elem(&last, &key, r, BPF_ANY))
		count_lost(0);
}

static __always_inline void emit(struct record *r)
{
	if (bpf_ringbuf_output(&events, r, sizeof(*r), 0))
		count_lost(r->kind);
}

/* emit_all is for what everybody looks up and nobody waits for: to wake a reader twice for
 * each process costs a container's processes more than all else here. */
static __always_inline void emit_all(struct record *r)
{
	__u32 zero = 0;
	struct setting *s = bpf_map_lookup_elem(&settings, &zero);

	if (s && s->all)
		emit(r);
}

/* tell says that there is something new to look up about a container. */
static __always_inline void tell(__u32 kind, __u64 cgroup, __u64 now)
{
	struct record *r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);

	if (!r) {
		count_lost(kind);
		return;
	}
	__builtin_memset(r, 0, sizeof(*r));
	r->kind = kind;
	r->time = now;
	r->cgroup = cgroup;
	bpf_ringbuf_submit(r, 0);
}
