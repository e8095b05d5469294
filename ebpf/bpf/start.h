/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * How a container starts: the moments that are seen without a program on the syscalls.
 * Which process accepts a connection is not; the first connection that the kernel
 * establishes for a listening port of the container is.
 */
#pragma once

#define TCP_ESTABLISHED 1
#define TCP_SYN_RECV 3
#define TCP_CLOSE 7
#define TCP_LISTEN 10

/* What a process had used up to a moment. */
struct use {
	__u64 minor_faults;
	__u64 major_faults;
	/* From a disk, not from the page cache. */
	__u64 read_bytes;
};

/* Nanoseconds since boot, suspend included; 0: not yet. */
struct start {
	__u64 cloned;
	__u64 exec;
	__u64 listen;
	__u64 connection;
	struct use at_exec;
	struct use at_listen;
	__u32 port;
	__u32 pad;
};

struct listener {
	__u64 net;
	__u64 port;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, __u64);
	__type(value, struct start);
} starts SEC(".maps");

/* Ports that wait for their first connection, with the container. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct listener);
	__type(value, __u64);
} listeners SEC(".maps");

/* Threads of a process that are looked at. */
#define THREADS 64

/* used sums up a process: its threads, by the list that the signals they share keep of them
 * (thread_head, include/linux/sched/signal.h), and those that have ended. A thread that
 * begins or ends meanwhile may be missed or lead back to where the list begins. */
static __always_inline void used(struct use *u, struct task_struct *t)
{
	bool io = bpf_core_field_exists(t->ioac.read_bytes);
	struct signal_struct *s = BPF_CORE_READ(t, signal);
	struct list_head *head = __builtin_preserve_access_index(&s->thread_head);
	struct list_head *node = BPF_CORE_READ(s, thread_head.next);
	int i;

	u->minor_faults = BPF_CORE_READ(s, min_flt);
	u->major_faults = BPF_CORE_READ(s, maj_flt);
	if (io)
		u->read_bytes = BPF_CORE_READ(s, ioac.read_bytes);
	for (i = 0; i < THREADS; i++) {
		struct task_struct *thread;

		if (!node || node == head)
			return;
		thread = (void *)node - bpf_core_field_offset(struct task_struct, thread_node);
		u->minor_faults += BPF_CORE_READ(thread, min_flt);
		u->major_faults += BPF_CORE_READ(thread, maj_flt);
		if (io)
			u->read_bytes += BPF_CORE_READ(thread, ioac.read_bytes);
		node = BPF_CORE_READ(node, next);
	}
}

/* began notes PID 1's first execve; what it executes later is its own business. */
static __always_inline void began(struct record *r, struct task_struct *t)
{
	struct start s = { .exec = r->time };

	/* The leader's, since a thread that calls execve becomes it. */
	s.cloned = BPF_CORE_READ(t, group_leader, start_boottime);
	used(&s.at_exec, t);
	bpf_map_update_elem(&starts, &r->cgroup, &s, BPF_NOEXIST);
}

static __always_inline void listens(struct listener *l)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct start *s;
	__u64 id = 0;

	if (!find(t, &id))
		return;
	s = bpf_map_lookup_elem(&starts, &id);
	if (!s || s->listen)
		return;
	s->listen = bpf_ktime_get_boot_ns();
	s->port = l->port;
	used(&s->at_listen, t);
	bpf_map_update_elem(&listeners, l, &id, BPF_ANY);
	tell(KIND_START, id, s->listen);
}

/* Listening begins in the process that asks for it; a connection comes up in whatever
 * the CPU was doing. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, struct sock *sk, int before, int after)
{
	struct listener l = {};
	struct start *s;
	__u64 *id;

	/* A new connection is a copy of its listener and passes from LISTEN to SYN_RECV. */
	if (after != TCP_LISTEN && (before != TCP_LISTEN || after != TCP_CLOSE) &&
	    (before != TCP_SYN_RECV || after != TCP_ESTABLISHED))
		return 0;
	l.net = (__u64)BPF_CORE_READ(sk, __sk_common.skc_net.net);
	l.port = BPF_CORE_READ(sk, __sk_common.skc_num);
	if (after == TCP_LISTEN) {
		listens(&l);
		return 0;
	}
	id = bpf_map_lookup_elem(&listeners, &l);
	if (!id)
		return 0;
	if (before == TCP_SYN_RECV) {
		s = bpf_map_lookup_elem(&starts, id);
		if (s && !s->connection) {
			s->connection = bpf_ktime_get_boot_ns();
			tell(KIND_START, *id, s->connection);
		}
	}
	bpf_map_delete_elem(&listeners, &l);
	return 0;
}
