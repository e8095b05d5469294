/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * The beginning and the end of the processes of a container.
 */
#pragma once

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *t, int old_pid, struct linux_binprm *b)
{
	struct container *c;
	struct record *r;
	__u64 id = 0;

	c = find(t, &id);
	if (!c)
		return 0;
	r = begin(KIND_EXEC, id, c, t);
	if (!r)
		return 0;
	bpf_probe_read_kernel_str(r->exec.filename, sizeof(r->exec.filename), BPF_CORE_READ(b, filename));
	if (r->flags & FLAG_INIT) {
		remember(r);
		began(r, t);
	}
	emit_all(r);
	return 0;
}

/* The tracepoint's second argument is younger than 6.1; the count of live threads is
 * taken down before it in all versions (do_exit, kernel/exit.c). */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *t)
{
	struct container *c;
	struct record *r;
	__u64 id = 0;

	if (BPF_CORE_READ(t, signal, live.counter) != 0) {
		denied_thread(t);
		return 0;
	}
	c = find(t, &id);
	if (!c)
		return 0;
	r = begin(KIND_EXIT, id, c, t);
	if (!r)
		return 0;
	/* As wait_task_zombie computes it. */
	if (BPF_CORE_READ(t, signal, flags) & SIGNAL_GROUP_EXIT)
		r->exit.status = BPF_CORE_READ(t, signal, group_exit_code);
	else
		r->exit.status = BPF_CORE_READ(t, group_leader, exit_code);
	describe(&r->exit.parent, BPF_CORE_READ(t, real_parent));
	remember(r);
	emit_all(r);
	return 0;
}
