/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * The scene of an OOM kill: who held the memory of the level that ran out, and what it
 * was. All of it is read at the kill, before the victim has given anything back.
 *
 * The processes are found by the list of all processes, which may be followed under RCU
 * whoever begins or ends meanwhile (for_each_process); the tasks of a cgroup are in lists
 * that may only be followed under a lock. Each step of the way is a global function for
 * the reason that below is, in oom.h.
 */
#pragma once

/* Processes looked at: STRETCHES times STRETCH. A foreign one costs some 0.1 µs, and
 * victims are chosen with preemption off. */
#define STRETCH 64
#define STRETCHES 64

/* CPUs over which counters are added up. */
#define CPUS 256

enum { FILE_PAGES, ANON_PAGES, SWAP_ENTRIES, SHMEM_PAGES };

/* One kill's work. */
struct walk {
	/* Addresses: the process looked at, the first one, the level's state (0: the node). */
	__u64 task, first, css;
	__u64 mm[LARGEST];
	__u64 size[LARGEST];
	/* For whom the scene was taken, to be found again by a group kill's other victims: see
	 * same_kill. */
	__u64 level, group, ooms;
	__u64 asker_began, marked;
	__u32 asker;
	__u32 cpus;
	/* From a per-CPU pointer to each CPU's own. */
	__u64 offsets[CPUS];
};

struct site {
	struct walk walk;
	struct kill kill;
};

/* The kernel kills for want of memory one at a time (oom_lock, mm/oom_kill.c), so there is
 * one on the node, wherever the thread runs that goes through a group. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct site);
} site SEC(".maps");

/* The scenes of the records of OOM kills in last, by the same keys. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, struct last_key);
	__type(value, struct scene);
} scenes SEC(".maps");

/* cpu_offset is what the kernel keeps in __per_cpu_offset, of which no helper tells: the
 * distance from a per-CPU map's pointer to its value on a CPU. An address becomes a number
 * by being read from where it lies. */
__noinline __u64 cpu_offset(__u32 cpu)
{
	__u64 here = 0, array = 0, base = 0;
	void *map = &scratch, *value;
	__u32 zero = 0;

	value = bpf_map_lookup_percpu_elem(&scratch, &zero, cpu);
	if (!value)
		return 0;
	bpf_probe_read_kernel(&here, sizeof(here), &value);
	bpf_probe_read_kernel(&array, sizeof(array), &map);
	bpf_probe_read_kernel(&base, sizeof(base), (void *)(array + bpf_core_field_offset(struct bpf_array, pptrs)));
	return base ? here - base : 0;
}

static __always_inline void learn_cpus(struct walk *w, __u32 cpus)
{
	__u32 i;

	if (w->cpus || cpus > CPUS)
		return;
	for (i = 0; i < CPUS; i++) {
		if (i >= cpus)
			break;
		w->offsets[i] = cpu_offset(i);
		if (!w->offsets[i])
			return;
	}
	w->cpus = cpus;
}

/* summed adds up a counter that is kept per CPU (percpu_counter_sum, lib/percpu_counter.c). */
__noinline __u64 summed(struct walk *w, __u64 address)
{
	struct percpu_counter *c = (struct percpu_counter *)address;
	__s64 sum = BPF_CORE_READ(c, count);
	__s32 *counters;
	__u32 i;

	if (!w || !bpf_core_field_exists(c->counters))
		goto out;
	counters = BPF_CORE_READ(c, counters);
	for (i = 0; i < CPUS; i++) {
		__s32 part = 0;

		if (i >= w->cpus)
			break;
		bpf_probe_read_kernel(&part, sizeof(part), (void *)counters + w->offsets[i]);
		sum += part;
	}
out:
	return sum < 0 ? 0 : sum;
}

#define OLD_PAGES(mm, i) BPF_CORE_READ((struct mm_struct___old *)(mm), rss_stat.count[i].counter)
#define OLD_RSS bpf_core_field_exists(struct mm_struct___old, rss_stat.count)
#define NEW_PAGES(mm, i) summed(w, (__u64)__builtin_preserve_access_index(&(mm)->rss_stat[i]))
/* i must be constant: a relocated access with a variable index reads the wrong place. */
#define PAGES(mm, i) (OLD_RSS ? positive(OLD_PAGES(mm, i)) : NEW_PAGES(mm, i))
/* Without adding up, which leaves out some pages of each CPU. */
#define ABOUT(mm, i) positive(OLD_RSS ? OLD_PAGES(mm, i) : BPF_CORE_READ(mm, rss_stat[i].count))

static __always_inline __u64 positive(__s64 n)
{
	return n < 0 ? 0 : n;
}

/* under says whether a cgroup is another one or below it. */
__noinline int under(__u64 address, __u64 ancestor)
{
	struct cgroup_subsys_state *css = (struct cgroup_subsys_state *)address;
	int i;

	for (i = 0; i < DEPTH; i++) {
		if (!css)
			return 0;
		if ((__u64)css == ancestor)
			return 1;
		css = BPF_CORE_READ(css, parent);
	}
	return 0;
}

/* mm_of is a process's memory; its first thread may have ended before the others. */
static __always_inline struct mm_struct *mm_of(struct task_struct *t)
{
	struct mm_struct *mm;
	struct signal_struct *s;
	struct list_head *node;
	int i;

	if (BPF_CORE_READ(t, flags) & PF_KTHREAD)
		return 0;
	mm = BPF_CORE_READ(t, mm);
	if (mm)
		return mm;
	s = BPF_CORE_READ(t, signal);
	node = BPF_CORE_READ(s, thread_head.next);
	for (i = 0; i < 8; i++) {
		struct list_head *head = __builtin_preserve_access_index(&s->thread_head);

		if (!node || node == head)
			return 0;
		t = (void *)node - bpf_core_field_offset(struct task_struct, thread_node);
		mm = BPF_CORE_READ(t, mm);
		if (mm)
			return mm;
		node = BPF_CORE_READ(node, next);
	}
	return 0;
}

/* consider gives the process its place if it is among the largest so far. By size they are
 * what the OOM killer sees in them, the page tables aside (oom_badness, mm/oom_kill.c). */
__noinline int consider(struct walk *w, struct scene *s)
{
	struct process *place = 0;
	struct task_struct *t;
	struct mm_struct *mm;
	__u64 size, least;
	int i, at = 0;

	if (!w || !s)
		return 0;
	t = (struct task_struct *)w->task;
	mm = mm_of(t);
	if (!mm || (w->css && !under((__u64)memory_css(t), w->css)))
		return 0;
	s->processes++;
	size = ABOUT(mm, ANON_PAGES) + ABOUT(mm, FILE_PAGES) + ABOUT(mm, SHMEM_PAGES) + ABOUT(mm, SWAP_ENTRIES);
	least = size + 1; /* what holds nothing yet has a place, too */
#pragma unroll
	for (i = 0; i < LARGEST; i++) {
		if (w->mm[i] == (__u64)mm) /* a child that has not called execve yet (vfork) */
			return 0;
		if (w->size[i] < least) {
			least = w->size[i];
			place = &s->largest[i];
			at = i;
		}
	}
	if (!place)
		return 0;
#pragma unroll
	for (i = 0; i < LARGEST; i++) {
		if (i == at) {
			w->mm[i] = (__u64)mm;
			w->size[i] = size + 1;
		}
	}
	place->tgid = BPF_CORE_READ(t, tgid);
	place->ns_tgid = ns_tgid(t);
	place->uid = BPF_CORE_READ(t, real_cred, uid.val);
	place->score_adj = BPF_CORE_READ(t, signal, oom_score_adj);
	place->cgroup = css_id(memory_css(t));
	BPF_CORE_READ_INTO(&place->comm, t, comm);
	return 0;
}

/* look looks at one process and goes on to the next; 1 at the end. */
__noinline int look(struct walk *w, struct scene *s)
{
	struct task_struct *t;
	struct list_head *node;

	if (!w || !s)
		return 1;
	consider(w, s);
	s->looked++;
	t = (struct task_struct *)w->task;
	node = BPF_CORE_READ(t, tasks.next);
	if (!node) {
		s->flags |= SCENE_CUT;
		return 1;
	}
	w->task = (__u64)node - bpf_core_field_offset(struct task_struct, tasks);
	return w->task == w->first;
}

__noinline int stretch(struct walk *w, struct scene *s)
{
	int i;

	for (i = 0; i < STRETCH; i++)
		if (look(w, s))
			return 1;
	return 0;
}

/* weigh fills in what a process holds. */
__noinline int weigh(struct walk *w, struct process *p, __u64 address)
{
	struct mm_struct *mm = (struct mm_struct *)address;

	if (!w || !p || !mm)
		return 0;
	p->anon = PAGES(mm, ANON_PAGES);
	p->file = PAGES(mm, FILE_PAGES);
	p->shmem = PAGES(mm, SHMEM_PAGES);
	p->swapped = PAGES(mm, SWAP_ENTRIES);
	return 0;
}

__noinline int levels(struct scene *s, __u64 address)
{
	struct cgroup_subsys_state *css = (struct cgroup_subsys_state *)address, *parent;
	int i;

	if (!s)
		return 0;
	s->levels = 0;
	for (i = 0; i < LEVELS; i++) {
		struct mem_cgroup *m = (struct mem_cgroup *)css;

		if (!css)
			return 0;
		parent = BPF_CORE_READ(css, parent);
		if (!parent) /* the root counts nothing */
			return 0;
		s->level[i].cgroup = css_id(css);
		s->level[i].usage = BPF_CORE_READ(m, memory.usage.counter);
		s->level[i].limit = BPF_CORE_READ(m, memory.max);
		s->level[i].swap_usage = BPF_CORE_READ(m, memsw.usage.counter);
		s->level[i].swap_limit = BPF_CORE_READ(m, memsw.max);
		s->levels = i + 1;
		css = parent;
	}
	return 0;
}

/* stats takes what the kernel has last added up for the level, which it does for its own
 * report right before the kill unless it reports too often (dump_header, mm/oom_kill.c). */
static __always_inline void stats(struct scene *s, struct mem_cgroup *m, struct setting *places)
{
	struct memcg_vmstats *v;
	void *state;
	int i;

	if (!places->stats[0])
		return;
	s->usage = BPF_CORE_READ(m, memory.usage.counter);
	if (bpf_core_field_exists(struct mem_cgroup___old, vmstats.state)) {
		state = __builtin_preserve_access_index(&((struct mem_cgroup___old *)m)->vmstats.state);
	} else {
		v = BPF_CORE_READ(m, vmstats);
		state = __builtin_preserve_access_index(&v->state);
	}
#pragma unroll
	for (i = 0; i < STATS; i++)
		if (places->stats[i])
			bpf_probe_read_kernel(&s->stats[i], sizeof(s->stats[i]), state + (places->stats[i] - 1) * sizeof(long));
	s->flags |= SCENE_STATS;
}

/* grouped finds the group that dies with a victim: the highest up to the level that ran out,
 * or to the root if none did, that asks for it (mem_cgroup_get_oom_group, mm/memcontrol.c). */
__noinline __u64 grouped(__u64 address, __u64 level)
{
	struct cgroup_subsys_state *css = (struct cgroup_subsys_state *)address;
	__u64 group = 0;
	int i;

	for (i = 0; i < DEPTH; i++) {
		if (!css)
			break;
		if (BPF_CORE_READ((struct mem_cgroup *)css, oom_group))
			group = (__u64)css;
		if ((__u64)css == level)
			break;
		css = BPF_CORE_READ(css, parent);
	}
	return group;
}

/* ooms is how often a level has run out, which is counted before each kill and by no other. */
static __always_inline __u64 ooms(__u64 level)
{
	struct mem_cgroup *m = (struct mem_cgroup *)level;

	if (!level || !bpf_core_field_exists(m->memory_events_local))
		return 0;
	return BPF_CORE_READ(m, memory_events_local[MEMCG_OOM].counter);
}

/* The victims of a group kill are marked one after the other, and the later ones when the
 * first may have given back what they had. Where nothing else tells, one kill takes no longer
 * than this, in ns, from one mark to the next. */
#define NEXT_MARK 5000000000ULL

/* same_kill says whether the thread that asks for memory still goes through the group for
 * which the scene was taken, however long that takes: a slow console is written to between two
 * marks. Who is in the group dies with it, and asks for no other kill; who is not has asked again
 * if the level has run out again, and another may have asked meanwhile, so that the time decides. */
static __always_inline bool same_kill(struct walk *w, struct record *r, __u64 level, __u64 group, struct task_struct *asker)
{
	if (!group || w->group != group || w->level != level || w->asker != r->oom.trigger.pid ||
	    w->asker_began != BPF_CORE_READ(asker, start_boottime))
		return 0;
	if (BPF_CORE_READ(asker, signal, oom_score_adj) != OOM_SCORE_ADJ_MIN && under((__u64)memory_css(asker), group))
		return 1;
	if (level && w->ooms && w->ooms == ooms(level))
		return 1;
	return r->time - w->marked < NEXT_MARK;
}

/* take takes the scene of a kill. css is the victim's, level the one that ran out; both are
 * addresses. A group kill is one scene, taken with its first victim. */
static __always_inline void take(struct site *here, struct record *r, __u64 css, __u64 level)
{
	struct task_struct *asker = (struct task_struct *)bpf_get_current_task();
	struct walk *w = &here->walk;
	struct scene *s = &here->kill.scene;
	struct setting *places;
	__u64 group = grouped(css, level);
	bool same = same_kill(w, r, level, group, asker);
	__u32 zero = 0;
	int i;

	if (group)
		r->flags |= FLAG_GROUP;
	w->marked = r->time;
	if (!same)
		__builtin_memset(s, 0, sizeof(*s));
	levels(s, css); /* the victim's own, and before anything changes */
	if (same)
		goto out;
	__builtin_memset(w->mm, 0, sizeof(w->mm));
	__builtin_memset(w->size, 0, sizeof(w->size));
	s->taken = r->time;
	w->level = w->css = level;
	w->group = group;
	w->ooms = ooms(level);
	w->asker = r->oom.trigger.pid;
	w->asker_began = BPF_CORE_READ(asker, start_boottime);
	w->first = (__u64)BPF_CORE_READ(asker, group_leader);
	w->task = w->first;
	for (i = 0; i < STRETCHES; i++)
		if (stretch(w, s))
			break;
	if (i == STRETCHES)
		s->flags |= SCENE_CUT;
#pragma unroll
	for (i = 0; i < LARGEST; i++)
		weigh(w, &s->largest[i], w->mm[i]);
	places = bpf_map_lookup_elem(&settings, &zero);
	if (places && level)
		stats(s, (struct mem_cgroup *)level, places);
out:
	r->oom.taken = s->taken;
}
