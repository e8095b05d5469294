/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * The parts of the kernel's types that the programs read, and nothing else. Field
 * offsets are not those written here: every access is relocated against the BTF of
 * the kernel that loads the object (CO-RE). A name with ___ is a flavour, an older
 * or newer shape of the type before the underscores.
 */
#pragma once

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef _Bool bool;

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_F_NO_PREALLOC = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
};

/* include/uapi/linux/capability.h, include/linux/security.h */
#define CAP_SYS_PTRACE 19
#define CAP_SYS_ADMIN 21
#define CAP_SYSLOG 34
#define CAP_OPT_NOAUDIT 2

#define SIGSYS 31
#define SIGNAL_GROUP_EXIT 4 /* include/linux/sched/signal.h */
#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */

#define EPERM 1
#define EACCES 13
#define EROFS 30
#define ENOSYS 38

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* Its number differs between configurations: read with bpf_core_enum_value. */
enum cgroup_subsys_id {
	memory_cgrp_id = 4,
};

typedef struct {
	long counter;
} atomic_long_t;

typedef struct {
	int counter;
} atomic_t;

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
	__u64 serial_nr;
};

struct css_set {
	struct cgroup_subsys_state *subsys[16];
};

struct page_counter {
	atomic_long_t usage;
	unsigned long max;
};

/* What of it is where is told by settings. */
struct memcg_vmstats {
	long state[64];
};

/* memsw shares its place with swap: memory plus swap on v1, swap alone on v2. */
struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
	struct page_counter memsw;
	struct memcg_vmstats *vmstats;
	bool oom_group;
	bool oom_lock; /* with CONFIG_MEMCG_V1, or before Linux 6.11 */
	atomic_long_t memory_events_local[4]; /* of enum memcg_memory_event, and more */
};

/* Until Linux 6.1 (410f8e82689e "memcg: extract memcg_vmstats from struct mem_cgroup"). */
struct mem_cgroup___old {
	struct memcg_vmstats vmstats;
};

/* enum memcg_memory_event, include/linux/memcontrol.h: "oom" in memory.events.local. It is
 * counted before the kill, and by no other group than the one that ran out. */
#define MEMCG_OOM 3

/* include/uapi/linux/oom.h: such a process is never killed, not with its group either. */
#define OOM_SCORE_ADJ_MIN (-1000)

/* Since Linux 6.2 (f1a7941243c1 "mm: convert mm's rss stats into percpu_counter"). */
struct percpu_counter {
	__s64 count;
	__s32 *counters; /* of each CPU, what is not in count yet; not with one CPU */
};

struct mm_struct {
	struct percpu_counter rss_stat[4];
};

/* Until Linux 6.1. */
struct mm_rss_stat___old {
	atomic_long_t count[4];
};

struct mm_struct___old {
	struct mm_rss_stat___old rss_stat;
};

typedef struct {
	__u32 val;
} kuid_t;

struct cred {
	kuid_t uid;
};

struct upid {
	int nr;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct sigaction {
	void *sa_handler;
};

struct k_sigaction {
	struct sigaction sa;
};

struct sighand_struct {
	struct k_sigaction action[64];
};

struct task_io_accounting {
	__u64 read_bytes;
};

struct seccomp {
	int mode;
};

struct list_head {
	struct list_head *next;
};

struct signal_struct {
	struct list_head thread_head;
	atomic_t live;
	unsigned int flags;
	int group_exit_code;
	short oom_score_adj;
	/* Of the threads that have ended. */
	unsigned long min_flt;
	unsigned long maj_flt;
	struct task_io_accounting ioac;
};

struct task_struct {
	unsigned int flags;
	struct list_head tasks;
	int pid;
	int tgid;
	int exit_code;
	char comm[16];
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct mm_struct *mm;
	struct css_set *cgroups;
	struct pid *thread_pid;
	const struct cred *real_cred;
	const struct cred *cred;
	__u64 start_boottime;
	unsigned long min_flt;
	unsigned long maj_flt;
	struct task_io_accounting ioac;
	struct seccomp seccomp;
	struct list_head thread_node;
	struct signal_struct *signal;
	struct sighand_struct *sighand;
};

union __sifields {
	struct {
		int _pid;
		__u32 _uid;
	} _kill;
	struct {
		void *_addr;
	} _sigfault;
	struct {
		void *_call_addr;
		int _syscall;
	} _sigsys;
};

struct kernel_siginfo {
	struct {
		int si_signo;
		int si_errno;
		int si_code;
		union __sifields _sifields;
	};
};

struct linux_binprm {
	const char *filename;
};

struct thread_info___x86 {
	__u32 status;
};

struct task_struct___x86 {
	struct thread_info___x86 thread_info;
};

struct thread_info___arm {
	unsigned long flags;
};

struct task_struct___arm {
	struct thread_info___arm thread_info;
};

struct pt_regs___x86 {
	unsigned long r10, r9, r8, ax, dx, si, di, orig_ax;
};

struct pt_regs___arm {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
};

struct bpf_array {
	void *pptrs[1];
};

struct selinux_audit_data {
	__u32 denied;
};

typedef struct {
	void *net;
} possible_net_t;

struct sock_common {
	unsigned short skc_family;
	unsigned short skc_num;
	possible_net_t skc_net;
};

struct sock {
	struct sock_common __sk_common;
};

#pragma clang attribute pop
