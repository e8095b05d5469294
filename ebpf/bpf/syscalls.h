/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * What the watched containers ask the kernel for: counts, errors, latencies of some,
 * refusals, and the last calls before an end.
 */
#pragma once

struct tally {
	__u64 calls;
	__u64 errors;
	/* Answered by seccomp, the last time with this error; while denials are watched. */
	__u32 refused;
	__u32 answer;
};

struct latency_key {
	__u32 slot;
	__u32 syscall;
};

struct latency {
	__u64 buckets[BUCKETS];
};

struct call {
	/* From 1; written last. 0 or not the expected one: being written. */
	__u64 sequence;
	__u64 time;
	__u64 arguments[3];
	__s64 result;
	__s32 syscall;
	/* The thread's number on the host. */
	__u32 tid;
	/* The thread ended in it. */
	__u32 unfinished;
	__u32 pad;
	__u8 comm[16];
};

/* What a task is in the middle of. A syscall that seccomp answers never enters: it
 * passes sys_exit alone (syscall_trace_enter, kernel/entry), which tells it apart. */
struct note {
	__u64 entered;
	__s32 syscall; /* -1: in none */
	__s32 capability; /* refused last in this syscall; -1: none */
	__u32 turn;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS * SYSCALLS);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct latency_key);
	__type(value, struct latency);
} latencies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS * FLIGHT);
	__type(key, __u32);
	__type(value, struct call);
} flight SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct note);
} notes SEC(".maps");

/* Which argument of a syscall is a path, counted from 1; 0: none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SYSCALLS);
	__type(key, __u32);
	__type(value, __u32);
} paths SEC(".maps");

#if defined(__TARGET_ARCH_x86)
#define ARGUMENT1(r) (REGS(r)->di)
#define ARGUMENT2(r) (REGS(r)->si)
#define ARGUMENT3(r) (REGS(r)->dx)
#else
#define ARGUMENT1(r) (REGS(r)->orig_x0)
#define ARGUMENT2(r) (REGS(r)->regs[1])
#define ARGUMENT3(r) (REGS(r)->regs[2])
#endif

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, void *regs, long id)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct watch *w = watch_of(t);
	struct want *a;
	struct note *n;

	if (!w)
		return 0;
	a = want_of(w);
	if (!a || !(a->flags & WATCH_ENTRY))
		return 0;
	n = bpf_task_storage_get(&notes, t, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!n)
		return 0;
	n->syscall = number(t, regs);
	n->capability = -1;
	n->entered = 0;
	if (a->flags & WATCH_LATENCY && (n->turn++ & a->sample) == 0)
		n->entered = bpf_ktime_get_ns();
	return 0;
}

static __always_inline void timed(struct watch *w, struct note *n, __u32 nr)
{
	struct latency_key k = { .slot = w->slot, .syscall = nr };
	__u64 took = bpf_ktime_get_ns() - n->entered;
	struct latency *l = bpf_map_lookup_elem(&latencies, &k);
	__u32 bucket = 0, shift;

	if (!l) {
		/* Too large for the stack; this CPU is not preempted meanwhile. */
		static struct latency none;

		bpf_map_update_elem(&latencies, &k, &none, BPF_NOEXIST);
		l = bpf_map_lookup_elem(&latencies, &k);
		if (!l)
			return;
	}
	for (shift = 32; shift; shift >>= 1) {
		if (took >> shift) {
			took >>= shift;
			bucket += shift;
		}
	}
	if (bucket >= BUCKETS)
		bucket = BUCKETS - 1;
	__sync_fetch_and_add(&l->buckets[bucket], 1);
}

static __always_inline void refused(struct watch *w, struct task_struct *t, struct note *n, void *regs, __s32 nr, long ret, struct tally *tally)
{
	struct denial_key k = { .cgroup = w->cgroup, .syscall = nr, .error = -ret };
	__u32 *path, index = nr;
	void *text = 0;

	if (n->syscall != nr) {
		if (!t->seccomp.mode)
			return;
		k.layer = LAYER_SECCOMP;
		if (tally) {
			tally->refused++;
			tally->answer = -ret;
		}
		deny(&k, t);
		return;
	}
	if (ret != -EPERM && ret != -EACCES && ret != -EROFS)
		return;
	/* "This file is always ready": Go asks for each file that it opens. */
	if (nr == NR_epoll_ctl)
		return;
	k.layer = ret == -EROFS ? LAYER_READ_ONLY : LAYER_PERMISSION;
	if (ret != -EROFS && n->capability >= 0) {
		k.layer = LAYER_CAPABILITY;
		k.what = n->capability;
	}
	path = bpf_map_lookup_elem(&paths, &index);
	if (path && *path == 1)
		text = (void *)ARGUMENT1(regs);
	else if (path && *path == 2)
		text = (void *)ARGUMENT2(regs);
	else if (path && *path == 3)
		text = (void *)ARGUMENT3(regs);
	if (text && bpf_probe_read_user_str(k.path, sizeof(k.path), text) < 0)
		k.path[0] = 0;
	deny(&k, t);
}

static __always_inline struct call *next_call(struct watch *w, __u64 *sequence)
{
	__u32 slot = w->slot, index;
	struct call *c;

	*sequence = __sync_fetch_and_add(&w->calls, 1) + 1;
	index = slot * FLIGHT + (*sequence & (FLIGHT - 1));
	c = bpf_map_lookup_elem(&flight, &index);
	if (!c)
		return 0;
	c->sequence = 0;
	c->time = bpf_ktime_get_boot_ns();
	return c;
}

static __always_inline bool accepts(__s32 nr)
{
	return nr == NR_accept || nr == NR_accept4;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, void *regs, long ret)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct watch *w = watch_of(t);
	bool fresh = 0, failed = ret < 0 && ret >= -4095;
	struct tally *tally;
	struct want *a;
	struct note *n;
	__u32 index;
	__s32 nr;

	if (!w)
		return 0;
	a = want_of(w);
	if (!a || !(w->started || a->started))
		return 0;
	nr = number(t, regs);
	if (nr < 0) /* a signal handler's return: the registers are of before the signal */
		return 0;
	index = nr < OTHERS ? nr : OTHERS;
	index += w->slot * SYSCALLS;
	tally = bpf_map_lookup_elem(&tallies, &index);
	if (tally) {
		tally->calls++;
		tally->errors += failed;
	}
	if (a->flags & WATCH_ACCEPT && ret >= 0 && !w->accepted && accepts(nr)) {
		w->accepted = bpf_ktime_get_boot_ns();
		tell(KIND_START, w->cgroup, w->accepted);
	}
	if (a->flags & WATCH_FLIGHT && !w->ended) {
		__u64 sequence;
		struct call *c = next_call(w, &sequence);

		if (c) {
			c->arguments[0] = ARGUMENT1(regs);
			c->arguments[1] = ARGUMENT2(regs);
			c->arguments[2] = ARGUMENT3(regs);
			c->result = ret;
			c->syscall = nr;
			c->tid = t->pid;
			c->unfinished = 0;
			bpf_get_current_comm(c->comm, sizeof(c->comm));
			c->sequence = sequence;
		}
	}
	if (!(a->flags & WATCH_ENTRY))
		return 0;
	n = bpf_task_storage_get(&notes, t, 0, 0);
	if (!n) { /* it entered before the watch began, or is just made */
		n = bpf_task_storage_get(&notes, t, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!n)
			return 0;
		fresh = 1;
		n->capability = -1;
		n->entered = 0;
	}
	if (n->entered)
		timed(w, n, nr < OTHERS ? nr : OTHERS);
	if (a->flags & WATCH_DENIALS && failed && !fresh)
		refused(w, t, n, regs, nr, ret, tally);
	n->syscall = -1;
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(watch_exec, struct task_struct *t)
{
	struct watch *w = watch_of(t);

	if (w && !w->started && is_init(w, t))
		w->started = 1;
	return 0;
}

/* unfinished is the syscall that an ending thread has not returned from; -1: none. On x86 the
 * result's register says so, which holds -ENOSYS until there is a result
 * (PUSH_AND_CLEAR_REGS, arch/x86/entry/entry_64.S); seccomp puts the number back into
 * it before it kills (syscall_rollback). */
static __always_inline __s32 unfinished(struct task_struct *t, struct note *n)
{
#if defined(__TARGET_ARCH_x86)
	void *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());

	return (long)REGS(regs)->ax == -ENOSYS ? number(t, regs) : -1;
#else
	return n ? n->syscall : -1;
#endif
}

/* A thread's last call is the one that it never returned from. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(watch_exit, struct task_struct *t)
{
	struct watch *w = watch_of(t);
	struct want *a;
	__s32 nr = -1;

	if (!w || w->ended)
		return 0;
	a = want_of(w);
	if (!a || !(w->started || a->started))
		return 0;
	if (a->flags & WATCH_FLIGHT)
		nr = unfinished(t, bpf_task_storage_get(&notes, t, 0, 0));
	if (nr >= 0) {
		__u64 sequence;
		struct call *c = next_call(w, &sequence);

		if (c) {
			c->arguments[0] = c->arguments[1] = c->arguments[2] = 0;
			c->result = 0;
			c->syscall = nr;
			c->tid = t->pid;
			c->unfinished = 1;
			bpf_get_current_comm(c->comm, sizeof(c->comm));
			c->sequence = sequence;
		}
	}
	if (BPF_CORE_READ(t, signal, live.counter) != 0 || !is_init(w, t))
		return 0;
	if (BPF_CORE_READ(t, signal, flags) & SIGNAL_GROUP_EXIT)
		w->status = BPF_CORE_READ(t, signal, group_exit_code);
	else
		w->status = BPF_CORE_READ(t, group_leader, exit_code);
	w->ended = 1;
	return 0;
}

static __always_inline int missing(const struct cred *cred, int cap)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct note *n;

	if (BPF_CORE_READ(t, cred) != cred)
		return 0;
	n = bpf_task_storage_get(&notes, t, 0, 0);
	if (n && n->syscall >= 0)
		n->capability = cap;
	return 0;
}

SEC("tp_btf/cap_capable")
int BPF_PROG(watch_capable, const struct cred *cred, void *target, void *owner, int cap, int ret)
{
	return ret == 0 || unminded(cap, current_syscall()) ? 0 : missing(cred, cap);
}

SEC("fexit/cap_capable")
int BPF_PROG(watch_capable_exit, const struct cred *cred, void *target, int cap, unsigned int opts, int ret)
{
	return ret == 0 || opts & CAP_OPT_NOAUDIT ? 0 : missing(cred, cap);
}
