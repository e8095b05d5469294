/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * The OOM killer has chosen. __oom_kill_process (mm/oom_kill.c) sends SIGKILL and
 * marks the victim under the victim's task lock, so both tracepoints run on one CPU
 * right after each other. A victim that is marked without that signal was dying anyway;
 * so is one whose signal was dropped for that reason, as that of a group kill's first
 * victim is when the whole group has its turn.
 */
#pragma once
#include "scene.h"

/* A counter is charged in batches of this many pages (MEMCG_CHARGE_BATCH), so the
 * level that ran out can stand that much below its limit. */
#define BATCH 64

static __always_inline void pages(struct walk *w, struct oom *o, struct mm_struct *mm)
{
	o->file = PAGES(mm, FILE_PAGES);
	o->anon = PAGES(mm, ANON_PAGES);
	o->swapped = PAGES(mm, SWAP_ENTRIES);
	o->shmem = PAGES(mm, SHMEM_PAGES);
}

/* below is verified once, on its own, because it is global; inlined it would be for each
 * of the levels in turn, which costs a second at the first start. A global function takes
 * numbers; that css is an address shows when it is read. */
__noinline int below(__u64 address, __u64 id)
{
	struct cgroup_subsys_state *css = (struct cgroup_subsys_state *)address;
	int i;

	for (i = 0; i < DEPTH; i++) {
		if (!css)
			return 0;
		if (css_id(css) == id)
			return 1;
		css = BPF_CORE_READ(css, parent);
	}
	return 0;
}

/* describe_level notes what a level has and may have. */
static __always_inline void describe_level(struct record *r, struct mem_cgroup *m, __u32 level)
{
	r->flags &= ~FLAG_SWAP;
	r->oom.level = level;
	r->oom.level_cgroup = css_id(&m->css);
	r->oom.usage = BPF_CORE_READ(m, memory.usage.counter);
	r->oom.limit = BPF_CORE_READ(m, memory.max);
	r->oom.swap_usage = BPF_CORE_READ(m, memsw.usage.counter);
	r->oom.swap_limit = BPF_CORE_READ(m, memsw.max);
}

enum { FULL = 1, FULL_WITH_SWAP = 2 };

/* full says whether a level can give no more: FULL, or FULL_WITH_SWAP if only memory plus
 * swap is. It is global for the reason that below is. */
__noinline int full(__u64 address)
{
	struct mem_cgroup *m = (struct mem_cgroup *)address;
	__u64 usage = BPF_CORE_READ(m, memory.usage.counter), max = BPF_CORE_READ(m, memory.max);
	__u64 swap = BPF_CORE_READ(m, memsw.usage.counter), swap_max = BPF_CORE_READ(m, memsw.max);

	if (usage + BATCH >= max)
		return FULL;
	/* Memory plus swap is never less than memory; a v2 swap counter is its own. */
	if (swap >= usage && swap_max >= max && swap + BATCH >= swap_max)
		return FULL_WITH_SWAP;
	return 0;
}

/* locked says whether a kill for this group or one above it is under way:
 * mem_cgroup_oom_trylock (mm/memcontrol-v1.c; on both versions of cgroups) marks the
 * whole tree below the group that ran out. It finds the level that other tasks have made
 * room in since. Another kill inside the tree keeps the mark from being set, so that
 * its absence says nothing. */
static __always_inline bool locked(struct mem_cgroup *m)
{
	return bpf_core_field_exists(m->oom_lock) && BPF_CORE_READ(m, oom_lock);
}

/* again says whether a group has run out since the last kill below it that was seen. It
 * finds the level where locked cannot: without CONFIG_MEMCG_V1, as Debian 13 has it. An
 * older count may be of a charge that another's kill had made room for, so the group must
 * still have half of what it may; a victim has what it held until it was marked. */
static __always_inline bool again(struct mem_cgroup *m, __u64 id)
{
	__u64 usage, max, now, *before;
	bool more;

	if (!bpf_core_field_exists(m->memory_events_local))
		return 0;
	now = BPF_CORE_READ(m, memory_events_local[MEMCG_OOM].counter);
	if (!now)
		return 0;
	before = bpf_map_lookup_elem(&ran_out, &id);
	more = !before || *before != now;
	if (more)
		bpf_map_update_elem(&ran_out, &id, &now, BPF_ANY);
	usage = BPF_CORE_READ(m, memory.usage.counter);
	max = BPF_CORE_READ(m, memory.max);
	return more && usage >= max / 2;
}

/* What tells the level when none is full that has the asker below it: the better, the
 * higher. */
enum { UNTOLD, RAN_OUT, SAME_KILL, LOCKED };

/* A search for the level that ran out, from the victim's group upwards. css and asker are
 * addresses: the group looked at and that of the task that asked for memory; same is the
 * group that ran out for the kill before, if that is this one. */
struct search {
	__u64 css, asker, same;
	__u64 told;
	__u64 ran_out;
	__u32 level, told_level;
	__u32 found, how;
};

/* step looks at one level and says whether the search is over. It is global for the
 * reason that below is: inlined, the verifier of Linux 6.1 follows every combination of
 * what the levels may be, and gives up after a million instructions. */
__noinline int step(struct search *s, struct record *r)
{
	struct cgroup_subsys_state *css;
	int inside, how, told = UNTOLD;
	__u64 id;

	if (!s || !r || !s->css)
		return 1;
	css = (struct cgroup_subsys_state *)s->css;
	id = css_id(css);
	if (s->level == LEVEL_CONTAINER)
		s->level = LEVEL_ABOVE;
	if (id == r->cgroup)
		s->level = LEVEL_CONTAINER;
	inside = below(s->asker, id);
	if (inside) {
		if (again((struct mem_cgroup *)css, id))
			told = RAN_OUT;
		if (id == s->same)
			told = SAME_KILL;
		if (locked((struct mem_cgroup *)css))
			told = LOCKED;
	}
	how = inside || !s->found ? full((__u64)css) : 0;
	if (how) {
		describe_level(r, (struct mem_cgroup *)css, s->level);
		s->ran_out = s->css;
		if (how == FULL_WITH_SWAP)
			r->flags |= FLAG_SWAP;
		s->found = 1;
		if (inside) {
			r->flags &= ~FLAG_OUTSIDE;
			s->told = 0;
			return 1;
		}
		r->flags |= FLAG_OUTSIDE;
	}
	/* The lock is that of all below the group that ran out. */
	if (told > s->how || told == LOCKED) {
		s->told = s->css;
		s->told_level = s->level;
		s->how = told;
	}
	s->css = (__u64)BPF_CORE_READ(css, parent);
	return 0;
}

/* which finds the level that ran out: the first ancestor that is full and has the
 * task that asked for memory below it; else the highest that is marked by the kill; else
 * that of the same kill's victim before; else the first that has run out since a kill
 * below it was seen; else the first that is full. It returns its address;
 * 0: none. */
static __always_inline __u64 which(struct record *r, struct cgroup_subsys_state *css, struct cgroup_subsys_state *asker)
{
	struct search s = { .css = (__u64)css, .asker = (__u64)asker, .level = LEVEL_BELOW };
	__u64 thread = bpf_get_current_pid_tgid();
	struct last_kill *k;
	__u32 zero = 0;
	int i;

	k = bpf_map_lookup_elem(&last_kill, &zero);
	if (k && k->asker == thread && r->time - k->time < NEXT_MARK)
		s.same = k->level_cgroup;
	for (i = 0; i < DEPTH; i++)
		if (step(&s, r))
			break;
	if (s.told) {
		describe_level(r, (struct mem_cgroup *)s.told, s.told_level);
		r->flags &= ~FLAG_OUTSIDE;
		s.ran_out = s.told;
	}
	if (k) {
		k->asker = thread;
		k->level_cgroup = r->flags & FLAG_OUTSIDE ? 0 : r->oom.level_cgroup;
		k->time = r->time;
	}
	return s.ran_out;
}

/* tell_kill is remember and emit for a kill, whose scene goes the same way. */
static __always_inline void tell_kill(struct site *here, struct record *r)
{
	struct last_key key = { .cgroup = r->cgroup, .kind = r->kind };

	if (bpf_map_update_elem(&scenes, &key, &here->kill.scene, BPF_ANY))
		count_lost(0);
	if (r->flags & FLAG_INIT) {
		key.init = 1;
		if (bpf_map_update_elem(&scenes, &key, &here->kill.scene, BPF_ANY))
			count_lost(0);
	}
	remember(r);
	bpf_probe_read_kernel(&here->kill.record, sizeof(here->kill.record), r);
	if (bpf_ringbuf_output(&events, &here->kill, sizeof(here->kill), 0))
		count_lost(r->kind);
}

/* entered says whether a process is in a container by no fork inside it: its parent is neither
 * there nor in its pid namespace. An orphan's is the first process of its namespace, and a
 * container that shares the host's has none of its own, so that nothing is said there. */
static __always_inline bool entered(struct task_struct *t, __u64 id)
{
	struct task_struct *leader = BPF_CORE_READ(t, group_leader), *parent = BPF_CORE_READ(leader, real_parent);

	if (BPF_CORE_READ(parent, thread_pid, level) >= BPF_CORE_READ(leader, thread_pid, level))
		return 0;
	return !below((__u64)memory_css(parent), id);
}

static __always_inline int victim(struct task_struct *t, bool dying)
{
	struct cgroup_subsys_state *css = memory_css(t);
	struct task_struct *asker = (struct task_struct *)bpf_get_current_task();
	struct setting *places;
	struct container *c;
	struct mm_struct *mm;
	struct record *r;
	struct site *here;
	__u64 id = 0, level;
	__u32 zero = 0;

	c = find_below(css, &id);
	if (!c)
		return 0;
	r = begin(KIND_OOM, id, c, t);
	if (!r)
		return 0;
	if (dying)
		r->flags |= FLAG_DYING;
	else
		__sync_fetch_and_add(&c->oom_kills, 1);
	r->oom.kills = c->oom_kills;
	if (entered(t, id))
		r->flags |= FLAG_ENTERED;
	r->oom.score_adj = BPF_CORE_READ(t, signal, oom_score_adj);
	here = bpf_map_lookup_elem(&site, &zero);
	if (!here)
		return 0;
	places = bpf_map_lookup_elem(&settings, &zero);
	if (places)
		learn_cpus(&here->walk, places->cpus);
	mm = BPF_CORE_READ(t, mm);
	if (mm)
		pages(&here->walk, &r->oom, mm);
	describe(&r->oom.trigger, asker);
	level = which(r, css, memory_css(asker));
	/* A dying task's other threads are marked, too: that must not cover the kill. */
	if (dying) {
		emit(r);
		return 0;
	}
	take(here, r, (__u64)css, level);
	tell_kill(here, r);
	return 0;
}

static __always_inline struct killed *noted(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&killed, &zero);
}

/* Since Linux 6.8 the tracepoint has the task (72ba14deb40a "mm: update mark_victim
 * tracepoints fields"); before, its thread id. Both programs load on both kernels, and
 * the wrong one reads garbage: Go chooses by the kernel's BTF. */
SEC("tp_btf/mark_victim")
int BPF_PROG(mark_victim, struct task_struct *t)
{
	struct killed *k = noted();
	struct setting *s;
	__u32 zero = 0;
	bool dying = 0;

	s = bpf_map_lookup_elem(&settings, &zero);
	if (s && s->signals && k)
		dying = k->pid != (__u32)BPF_CORE_READ(t, pid) || k->by != (__u32)bpf_get_current_pid_tgid();
	if (k)
		k->pid = 0;
	return victim(t, dying);
}

/* The thread id alone leads to no task (bpf_task_from_pid is of 6.2), but the SIGKILL
 * that was sent just before has it. Without that signal the victim was dying. */
SEC("tp_btf/mark_victim")
int BPF_PROG(mark_victim_pid, int pid)
{
	struct killed *k = noted();
	struct task_struct *t;

	if (!k || k->pid != (__u32)pid || k->by != (__u32)bpf_get_current_pid_tgid())
		return 0;
	t = (struct task_struct *)k->task;
	k->pid = 0;
	return victim(t, 0);
}
