/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * What a container was refused, as far as it can be learnt without a program on the
 * path of every syscall: a seccomp kill or trap (its signal), a capability that was
 * asked for and is missing, an SELinux denial. The rest needs syscalls.h.
 */
#pragma once
#include "ledger.h"

/* The only way that a thread alone dies of SIGSYS is SECCOMP_RET_KILL_THREAD, which sends no
 * signal (__seccomp_filter, kernel/seccomp.c). */
static __always_inline void denied_thread(struct task_struct *t)
{
	struct denial_key k = { .layer = LAYER_SECCOMP, .what = SIGSYS };
	struct container *c;

	if ((BPF_CORE_READ(t, exit_code) & 0x7f) != SIGSYS || BPF_CORE_READ(t, signal, flags) & SIGNAL_GROUP_EXIT)
		return;
	c = find(t, &k.cgroup);
	if (!c)
		return;
	k.syscall = current_syscall();
	deny(&k, t);
}

static __always_inline void denied_signal(struct record *r, struct task_struct *t)
{
	struct denial_key k = { .cgroup = r->cgroup, .layer = LAYER_SECCOMP, .what = SIGSYS };

	k.syscall = r->signal.syscall;
	deny(&k, t);
}

/* launching: PID 1 has executed nothing yet, so what it lacks is the launcher's affair. */
static __always_inline bool launching(struct container *c, __u64 cgroup, struct task_struct *t)
{
	bool init = c->init ? BPF_CORE_READ(t, tgid) == c->init : ns_tgid(t) == 1;

	return init && !bpf_map_lookup_elem(&starts, &cgroup);
}

/* Since Linux 6.14. It tells of checks that nobody minds, too (CAP_OPT_NOAUDIT is not
 * among its arguments): those known to be of this kind are left out. */
SEC("tp_btf/cap_capable")
int BPF_PROG(cap_capable, const struct cred *cred, void *target, void *owner, int cap, int ret)
{
	struct denial_key k = { .layer = LAYER_CAPABILITY };
	struct task_struct *t;
	struct container *c;

	if (ret == 0)
		return 0;
	t = bpf_get_current_task_btf();
	if (t->cred != cred) /* asked about somebody else */
		return 0;
	k.syscall = current_syscall();
	k.what = cap;
	if (unminded(cap, k.syscall))
		return 0;
	c = find(t, &k.cgroup);
	if (c && !launching(c, k.cgroup, t))
		deny(&k, t);
	return 0;
}

/* Where trampolines work the function itself tells more, and does since ever. */
SEC("fexit/cap_capable")
int BPF_PROG(cap_capable_exit, const struct cred *cred, void *target, int cap, unsigned int opts, int ret)
{
	struct denial_key k = { .layer = LAYER_CAPABILITY };
	struct task_struct *t;
	struct container *c;

	if (ret == 0 || (opts & CAP_OPT_NOAUDIT))
		return 0;
	t = bpf_get_current_task_btf();
	if (t->cred != cred)
		return 0;
	k.syscall = current_syscall();
	k.what = cap;
	c = find(t, &k.cgroup);
	if (c && !launching(c, k.cgroup, t))
		deny(&k, t);
	return 0;
}

SEC("tp_btf/selinux_audited")
int BPF_PROG(selinux_audited, struct selinux_audit_data *d, char *scontext, char *tcontext, const char *tclass)
{
	struct denial_key k = { .layer = LAYER_SELINUX };
	struct task_struct *t = bpf_get_current_task_btf();
	struct container *c;

	k.what = BPF_CORE_READ(d, denied);
	if (!k.what)
		return 0;
	c = find(t, &k.cgroup);
	if (!c)
		return 0;
	k.syscall = current_syscall();
	bpf_probe_read_kernel_str(k.path, sizeof(k.path), tclass);
	deny(&k, t);
	return 0;
}
