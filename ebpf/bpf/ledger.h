/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * The denial ledger: one entry per container and thing denied, with how often and when.
 * It is bounded as a whole and per container, and what finds no place is counted.
 */
#pragma once
#include "numbers.h"

/* Denials of one container that are told apart. */
#define DENIALS_EACH 256

/* Who refused. */
enum layer {
	LAYER_SECCOMP = 1,
	LAYER_CAPABILITY = 2,
	LAYER_SELINUX = 3,
	LAYER_READ_ONLY = 4,
	/* The kernel said EPERM or EACCES, for a reason that is not one of those above. */
	LAYER_PERMISSION = 5,
	LAYERS = 6,
};

struct denial_key {
	__u64 cgroup;
	__u32 layer;
	/* As the machine numbers them; -1: in no syscall. Bit 30: the other table of a
	 * machine that has two (32-bit programs). */
	__s32 syscall;
	/* Seccomp: the signal, 0 if none. Capability: its number. SELinux: the access vector. */
	__u32 what;
	/* What the syscall returned, positive; 0: not known, it may even have succeeded. */
	__u32 error;
	/* As the process named it, and relative to what it meant. SELinux: the class. */
	__u8 path[96];
};

struct denial {
	__u64 count;
	/* Nanoseconds since boot, suspend included. */
	__u64 first;
	__u64 last;
	/* Who it was first. */
	__u32 tgid;
	__u32 ns_tgid;
	__u8 comm[16];
};

struct denial_use {
	/* How many entries the container has. */
	__u64 entries;
	/* Denials that found no place. */
	__u64 lost;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct denial_key);
	__type(value, struct denial);
} denials SEC(".maps");

/* As many as there are containers, so each has its place. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, __u64);
	__type(value, struct denial_use);
} denial_uses SEC(".maps");

/* Denials of all containers, by layer, also those that found no place. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LAYERS);
	__type(key, __u32);
	__type(value, __u64);
} denied SEC(".maps");

#define COMPAT (1 << 30)
#define TS_COMPAT 2 /* arch/x86/include/asm/thread_info.h */
#define TIF_32BIT 22 /* arch/arm64/include/asm/thread_info.h */

#if defined(__TARGET_ARCH_x86)
#define REGS(r) ((struct pt_regs___x86 *)(r))
#else
#define REGS(r) ((struct pt_regs___arm *)(r))
#endif

/* Both must be pointers that the verifier knows: then these are plain loads. */
static __always_inline __s32 number(struct task_struct *t, void *regs)
{
#if defined(__TARGET_ARCH_x86)
	__s32 nr = REGS(regs)->orig_ax;

	if (nr >= 0 && ((struct task_struct___x86 *)t)->thread_info.status & TS_COMPAT)
		nr |= COMPAT;
#else
	__s32 nr = REGS(regs)->syscallno;

	if (nr >= 0 && ((struct task_struct___arm *)t)->thread_info.flags & (1UL << TIF_32BIT))
		nr |= COMPAT;
#endif
	return nr;
}

/* The syscall that the running task is in; the registers of its entry lie at the top of
 * its kernel stack. Not a syscall (a fault, an interrupt): -1. */
static __always_inline __s32 current_syscall(void)
{
	struct task_struct *t = bpf_get_current_task_btf();

	return number(t, (void *)bpf_task_pt_regs(t));
}

/* Checks without consequence, which the kernel itself does not audit: every mapping of
 * memory asks whether it may take the reserve (__vm_enough_memory), /proc hides columns
 * (do_task_stat, kallsyms), a list of attributes leaves some out (xattr_list). The numbers
 * of 32-bit programs are others: they go without. */
static __always_inline bool unminded(int cap, __s32 nr)
{
	if (nr < 0 || nr & COMPAT)
		return 1;
	switch (cap) {
	case CAP_SYS_ADMIN:
		switch (nr) {
		case NR_mmap: case NR_munmap: case NR_mremap: case NR_mprotect: case NR_brk:
		case NR_madvise: case NR_clone: case NR_clone3: case NR_execve: case NR_execveat:
		case NR_shmget: case NR_shmat: case NR_exit: case NR_exit_group:
		case NR_listxattr: case NR_llistxattr: case NR_flistxattr:
#if defined(__TARGET_ARCH_x86)
		case NR_fork: case NR_vfork:
#endif
			return 1;
		}
		return 0;
	case CAP_SYS_PTRACE:
	case CAP_SYSLOG:
		return nr == NR_read || nr == NR_pread64;
	}
	return 0;
}

static __always_inline void deny(struct denial_key *k, struct task_struct *t)
{
	struct denial *d = bpf_map_lookup_elem(&denials, k);
	__u64 now = bpf_ktime_get_boot_ns();
	struct denial_use *use;
	bool more = 0;
	__u32 layer = k->layer;
	__u64 *n = bpf_map_lookup_elem(&denied, &layer);

	if (n)
		(*n)++;
	if (!d) {
		struct denial fresh = { .first = now };

		use = bpf_map_lookup_elem(&denial_uses, &k->cgroup);
		if (!use) {
			struct denial_use none = {};

			bpf_map_update_elem(&denial_uses, &k->cgroup, &none, BPF_NOEXIST);
			use = bpf_map_lookup_elem(&denial_uses, &k->cgroup);
		}
		if (!use)
			return;
		if (use->entries >= DENIALS_EACH) {
			__sync_fetch_and_add(&use->lost, 1);
			return;
		}
		fresh.tgid = BPF_CORE_READ(t, tgid);
		fresh.ns_tgid = ns_tgid(t);
		BPF_CORE_READ_INTO(&fresh.comm, t, comm);
		more = !bpf_map_update_elem(&denials, k, &fresh, BPF_NOEXIST);
		if (more)
			__sync_fetch_and_add(&use->entries, 1);
		d = bpf_map_lookup_elem(&denials, k);
		if (!d) {
			__sync_fetch_and_add(&use->lost, 1);
			return;
		}
	}
	__sync_fetch_and_add(&d->count, 1);
	d->last = now;
	if (more) /* once per line, so at most DENIALS_EACH times per container */
		tell(KIND_DENIAL, k->cgroup, now);
}
