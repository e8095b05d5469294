/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * Signals that can end a process, and who sent them.
 */
#pragma once

#define SIGKILL 9
#define BIT(n) (1ULL << (n))

/* HUP INT QUIT ILL TRAP ABRT BUS FPE KILL SEGV TERM XCPU XFSZ SYS */
#define ENDING (BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | \
		BIT(9) | BIT(11) | BIT(15) | BIT(24) | BIT(25) | BIT(31))

static __always_inline bool handled(struct task_struct *t, int sig)
{
	struct sighand_struct *h = BPF_CORE_READ(t, sighand);
	void *handler = 0;
	void *base;

	if (!h || sig == SIGKILL)
		return 0;
	base = __builtin_preserve_access_index(&h->action[0]);
	bpf_probe_read_kernel(&handler, sizeof(handler),
			      base + (sig - 1) * bpf_core_type_size(struct k_sigaction));
	return handler != 0;
}

SEC("tp_btf/signal_generate")
int BPF_PROG(signal_generate, int sig, struct kernel_siginfo *info, struct task_struct *t, int group, int result)
{
	struct task_struct *sender = (struct task_struct *)bpf_get_current_task();
	/* SEND_SIG_NOINFO is 0, SEND_SIG_PRIV, the kernel itself, is 1 (linux/signal.h). */
	bool kernel = (__u64)info == 1;
	struct container *c;
	struct record *r;
	__u32 zero = 0;
	__u64 id = 0;

	if (sig < 1 || sig > 31 || !(BIT(sig) & ENDING))
		return 0;
	if (result != 0) /* TRACE_SIGNAL_DELIVERED; else ignored or pending already */
		return 0;
	if (sig == SIGKILL && kernel) {
		struct killed *k = bpf_map_lookup_elem(&killed, &zero);

		if (k) {
			k->task = (__u64)t;
			k->pid = BPF_CORE_READ(t, pid);
			k->by = BPF_CORE_READ(sender, pid);
		}
	}
	c = find(t, &id);
	if (!c)
		return 0;
	r = begin(KIND_SIGNAL, id, c, t);
	if (!r)
		return 0;
	r->signal.number = sig;
	if ((__u64)info > 1) {
		r->signal.code = BPF_CORE_READ(info, si_code);
		kernel = r->signal.code > 0;
		if (kernel && sig == SIGSYS) {
			r->signal.address = (__u64)BPF_CORE_READ(info, _sifields._sigsys._call_addr);
			r->signal.syscall = BPF_CORE_READ(info, _sifields._sigsys._syscall);
			denied_signal(r, t);
		} else if (kernel) {
			r->signal.address = (__u64)BPF_CORE_READ(info, _sifields._sigfault._addr);
		}
	}
	if (kernel)
		r->flags |= FLAG_KERNEL;
	describe(&r->signal.sender, sender);
	/* A handled signal is not an end, and some runtimes live on them (a JVM's SIGSEGV). */
	if (handled(t, sig)) {
		r->flags |= FLAG_HANDLED;
		return 0;
	}
	remember(r);
	emit_all(r);
	return 0;
}
