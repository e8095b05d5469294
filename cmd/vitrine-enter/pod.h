/*
 * vitrine-pod pod|pod-users DIRECTORY [NAMESPACE]... makes a pid namespace for the containers
 * of a pod to share, and its first process, which only reaps. The directory is the pod's, by
 * which a later daemon finds the process; the namespaces are the pod's, entered first, a
 * user namespace (pod-users) before the others, which then owns the pid namespace.
 *
 * Containers of the pod see this process, and one with CAP_SYS_PTRACE may trace it and
 * have it do whatever it could. So there is nothing that it could do, and nothing in it to be
 * found: no file of the host below its root, no descriptor, no capability, a user of no
 * other process, a filter that leaves it to wait and to end. The program itself is in sealed
 * memory. See docs/decisions/0185-the-first-process-of-a-shared-namespace.md.
 *
 *	descriptor 3	write end of a pipe: "pid N", or an error; its end says that the
 *			process is all that
 */
#include <linux/audit.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif

#define NOBODY 65535 /* as pause images have it */

#define ALLOW(n) {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, n}, {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}

/* What is left to the process once it is confined. */
static struct sock_filter waits[] = {
	{BPF_LD | BPF_W | BPF_ABS, 0, 0, __builtin_offsetof(struct seccomp_data, arch)},
	{BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCH},
	{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
	{BPF_LD | BPF_W | BPF_ABS, 0, 0, __builtin_offsetof(struct seccomp_data, nr)},
	ALLOW(__NR_ppoll),
	ALLOW(__NR_close_range),
	ALLOW(__NR_restart_syscall),
	ALLOW(__NR_rt_sigreturn),
	ALLOW(__NR_exit_group),
	{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
};

/* An empty root that cannot be written to, and nothing else mounted. */
static void leave_the_host(void)
{
	check("root", sys_mount(0, "/", 0, MS_REC | MS_PRIVATE));
	check("root", sys_mount("vitrine-pod", "/proc", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC));
	check("root", sys_chdir("/proc"));
	check("root", sys_pivot_root(".", ".")); /* the old root lies upon the new one, pivot_root(2) */
	check("root", sys_umount2(".", MNT_DETACH));
	check("root", sys_chdir("/"));
}

static void be_user(u32 id)
{
	check("user", sys_setgroups(0, 0));
	check("user", sys_setresgid(id, id, id));
	check("user", sys_setresuid(id, id, id));
}

static void have_nothing(void)
{
	struct { u32 version; int pid; } header = {LINUX_CAPABILITY_VERSION_3, 0};
	struct { u32 effective, permitted, inheritable; } none[2] = {{0, 0, 0}, {0, 0, 0}};

	check("capabilities", sys_capset(&header, none));
	check("capabilities", sys_prctl2(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0));
	check("privileges", sys_prctl(PR_SET_NO_NEW_PRIVS, 1));
	check("dumpable", sys_prctl(PR_SET_DUMPABLE, 0)); /* what the user's change does too */
}

static void drop_all_bounding(void)
{
	for (u64 cap = 0; cap < 64; cap++)
		if (sys_prctl(PR_CAPBSET_READ, cap) > 0)
			check("capabilities", sys_prctl(PR_CAPBSET_DROP, cap));
}

static void __attribute__((noreturn)) wait_for_ever(int users)
{
	struct sock_fprog program = {sizeof(waits) / sizeof(waits[0]), waits};
	u64 ignore[4] = {1};
	long result;

	check("session", sys_setsid());
	leave_the_host();
	drop_all_bounding();
	if (!users)
		be_user(NOBODY);
	have_nothing();
	sys_rt_sigaction(SIGCHLD, ignore); /* the kernel reaps */
	result = sys_seccomp(SECCOMP_SET_MODE_FILTER, 0, &program);
	if (result != -ENOSYS && result != -EINVAL) /* a kernel without filters */
		check("seccomp", result);
	if (sys_close_range(0, ~0u, 0) < 0)
		sys_exit(1);
	for (;;)
		if (CALL(__NR_ppoll, 0, 0, 0, 0, 0, 0) != -EINTR)
			sys_exit(1);
}

static void __attribute__((noreturn)) hold(u64 argc, char **argv)
{
	struct clone_args args = {0};
	int users = argv[1][3] == '-';
	long pid, fds[MAX_NS];

	sys_prctl(PR_SET_NAME, (u64)"vitrine-pod");
	check("dumpable", sys_prctl(PR_SET_DUMPABLE, 0));
	default_signals();
	if (argc - 3 > MAX_NS)
		decline("join", E2BIG);
	for (u64 i = 3; i < argc; i++) /* all of them as the host's root */
		fds[i - 3] = check("join", sys_openat(AT_FDCWD, argv[i], O_RDONLY | O_CLOEXEC));
	for (u64 i = 3; i < argc; i++) {
		check("join", sys_setns(fds[i - 3], 0));
		if (users && i == 3)
			be_user(0);
	}
	/* Its parent is this one's, who can wait for it. */
	args.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_PARENT;
	pid = check("fork", sys_clone3(&args));
	if (pid == 0)
		wait_for_ever(users);
	say("pid ");
	say_number(pid);
	say("\n");
	finish(0);
}
