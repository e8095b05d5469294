/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * What the programs tell, and the maps they tell it through. The Go types are
 * generated from these. A change of any of them needs a new layout number in pins.go.
 */
#pragma once

enum kind {
	KIND_OOM = 1,
	KIND_EXEC = 2,
	KIND_EXIT = 3,
	KIND_SIGNAL = 4,
	/* The container's ledger has a line more; it is not told which, nor about whom. */
	KIND_DENIAL = 5,
	/* The container's start has come further: see the map starts, and accepted in
	 * watch.h. It is not told how far. */
	KIND_START = 6,
	KINDS = 7,
};

enum flag {
	/* The record is about the container's PID 1. */
	FLAG_INIT = 1,
	/* OOM: the victim was dying before; this kill did not end it. */
	FLAG_DYING = 2,
	/* OOM: the level runs out of memory plus swap (v1 memsw). */
	FLAG_SWAP = 4,
	/* OOM: the triggering task is not below the level that ran out. */
	FLAG_OUTSIDE = 8,
	/* OOM: the victim's group asks for group kills: all of it is killed. */
	FLAG_GROUP = 16,
	/* Signal: sent by the kernel, not by a process. */
	FLAG_KERNEL = 32,
	/* Signal: the target has a handler for it. */
	FLAG_HANDLED = 64,
	/* OOM: the victim came into the container from outside, as PID 1 and the processes of
	 * exec sessions do, and not by a fork inside it. */
	FLAG_ENTERED = 128,
};

/* How the level that ran out lies to the container's own cgroup. */
enum level {
	LEVEL_GLOBAL = 0,
	LEVEL_BELOW = 1,
	LEVEL_CONTAINER = 2,
	LEVEL_ABOVE = 3,
};

struct task {
	__u32 pid;
	__u32 tgid;
	__u32 ns_tgid;
	__u32 uid;
	__u64 cgroup;
	__u8 comm[16];
};

struct oom {
	struct task trigger;
	__u64 level_cgroup;
	__u64 limit;
	__u64 usage;
	__u64 swap_limit;
	__u64 swap_usage;
	__u64 anon;
	__u64 file;
	__u64 shmem;
	__u64 swapped;
	__u32 level;
	__s32 score_adj;
	/* How many processes of the container the OOM killer has killed, this included. */
	__u64 kills;
	/* Which scene belongs to it; 0: none. */
	__u64 taken;
};

enum bounds {
	/* The largest processes that a scene holds. */
	LARGEST = 5,
	/* Levels of cgroups that it holds, the victim's own first; the root is not among them. */
	LEVELS = 10,
};

struct process {
	__u32 tgid;
	__u32 ns_tgid;
	__u32 uid;
	__s32 score_adj;
	__u64 cgroup;
	__u64 anon;
	__u64 file;
	__u64 shmem;
	__u64 swapped;
	__u8 comm[16];
};

struct level_use {
	__u64 cgroup;
	__u64 usage;
	__u64 limit;
	__u64 swap_usage;
	__u64 swap_limit;
};

/* What of a level's memory is what, as the kernel keeps it: in pages, slabs in bytes. */
enum stat {
	STAT_ANON,
	STAT_FILE, /* shared memory included */
	STAT_SHMEM,
	STAT_KERNEL, /* slabs included */
	STAT_SLAB_RECLAIMABLE,
	STAT_SLAB_UNRECLAIMABLE,
	STAT_SOCK,
	STATS,
};

enum scene_flag {
	/* There are more processes than were looked at. */
	SCENE_CUT = 1,
	/* The kernel's places of the stats are known. */
	SCENE_STATS = 2,
};

/* How it was at the kill: of the level that ran out, or of the node if none did. */
struct scene {
	__u64 taken;
	/* Processes of the level that were found, and those that were looked at for it. */
	__u32 processes;
	__u32 looked;
	__u32 flags;
	__u32 levels;
	struct process largest[LARGEST];
	struct level_use level[LEVELS];
	__s64 stats[STATS];
	/* What the level had in use when they were read, in pages. */
	__u64 usage;
};

struct exec {
	__u8 filename[128];
};

struct exit {
	struct task parent;
	/* As wait(2) reports it. */
	__s32 status;
	__u32 pad;
};

struct signal {
	struct task sender;
	__s32 number;
	__s32 code;
	__u64 address;
	__s32 syscall;
	__u32 pad;
};

struct record {
	__u32 kind;
	__u32 flags;
	/* Nanoseconds since boot, suspend included. */
	__u64 time;
	/* The tracked cgroup; the task itself may be in one below it. */
	__u64 cgroup;
	struct task task;
	union {
		struct oom oom;
		struct exec exec;
		struct exit exit;
		struct signal signal;
	};
};

struct container {
	__u32 slot;
	/* Host pid of PID 1; 0 as long as it is not known. */
	__u32 init;
	__u64 oom_kills;
};

struct last_key {
	__u64 cgroup;
	__u32 kind;
	/* 1: about PID 1; 0: about any task of the container. */
	__u32 init;
};

/* An OOM kill as it is told. */
struct kill {
	struct record record;
	struct scene scene;
};

struct setting {
	/* The signal program is attached, so mark_victim may rely on its notes. */
	__u32 signals;
	/* CPUs that there may be; 0: too many, or not known. */
	__u32 cpus;
	/* The place of each stat in memcg_vmstats.state, plus one; all 0: not known. */
	__u32 stats[STATS];
	/* Execs, exits and signals go through the ring, too. */
	__u32 all;
};

/* What the signal program saw last on this CPU: a SIGKILL from the kernel itself. */
struct killed {
	__u64 task;
	__u32 pid;
	__u32 by;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, __u64);
	__type(value, struct container);
} containers SEC(".maps");

/* Preallocated: a record must find its place also when there is no memory left. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct last_key);
	__type(value, struct record);
} last SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 512 * 1024);
} events SEC(".maps");

/* Events that found the ring full, by kind; index 0: records that found no place in last. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KINDS);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct setting);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct killed);
} killed SEC(".maps");

/* The kill that was seen last. The kernel kills for want of memory one at a time
 * (oom_lock, mm/oom_kill.c), so there is one on the node. */
struct last_kill {
	/* The thread that asked for memory, and the group that ran out. */
	__u64 asker;
	__u64 level_cgroup;
	__u64 time;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct last_kill);
} last_kill SEC(".maps");

/* How often a group had run out when a kill below it was seen last, by its id. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} ran_out SEC(".maps");

/* A record is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KINDS);
	__type(key, __u32);
	__type(value, struct record);
} scratch SEC(".maps");
