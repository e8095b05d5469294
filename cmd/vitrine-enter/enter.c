/*
 * vitrine-enter PLAN starts one process in a running container and ends; vitrine-enter alone
 * makes a container's init, birth.h, and with more arguments a pod's, pod.h. It does what
 * libcontainer's init does for an exec session, for the containers and processes that need
 * nothing else, without two starts of the Go runtime. Package launch/enter describes the
 * plan and says when there is one. See docs/decisions/0100-exec-without-libcontainer.md.
 *
 *	descriptor 0-2	the process's standard streams
 *	descriptor 3	write end of a pipe for the answer, a launch.Reply
 *	descriptor 5	pidfd of the container's init
 *
 * Until the execve everything can be given up: whatever is not as expected is answered
 * with an error, nothing is left behind, and the caller has libcontainer do it, which also
 * says what is wrong. So each step here is either done or declined; none is skipped.
 *
 * The program is executed from a sealed memfd: what a container could open through
 * /proc/PID/exe cannot be written to (CVE-2019-5736). It links no C library, because the
 * start of one costs more than all that is done here.
 */
#include "sys.h"

/* The plan: launch/enter, Plan.Append. Offsets count from the plan's beginning. */
struct plan {
	u64 magic, size;
	u64 uid, gid;
	u64 groups, ngroups;                              /* u64 each */
	u64 effective, permitted, inheritable, bounding, ambient;
	u64 no_new_privs;
	u64 argv, envp;                                   /* u64 offsets, 0 at the end */
	u64 home;                                         /* envp's last entry is for HOME */
	u64 path;                                         /* the value of PATH, 0 for none */
	u64 cwd;
	u64 filter, nfilter, filter_flags;                /* struct sock_filter each */
	u64 rlimits, nrlimits;                            /* kind, soft, hard */
	u64 namespaces, nnamespaces;                      /* flag, path */
	u64 cgroups, ncgroups;                            /* directories of cgroup v1 */
	u64 unified;                                      /* that of cgroup v2, 0 for none */
	u64 freezer, thawed;                              /* a file, and how it begins */
	u64 keyring;
	u64 oom_score;
	u64 apparmor;                                     /* "exec PROFILE", 0 for none */
	/* A container's init, birth.h; all zero for an exec session. */
	u64 birth;                                        /* BIRTH_ flags, 0 for none */
	u64 fresh;                                        /* CLONE_NEW flags */
	u64 root, root_propagation, parent_propagation;
	u64 ops, nops;
	u64 hostname, domainname;                         /* 0 for none */
	u64 sysctls, nsysctls;                            /* file below /proc, value */
	u64 readonly, masked;                             /* u64 offsets of paths, 0 at the end */
	u64 bare;                                         /* a mount namespace, 0 for none */
};

#define MAGIC     0x34726e7465727456ull
#define REPLY     3
#define PIDFD     5
#define PROFILE   3 /* the child's open_profile, in the place of the parent's answer */
#define MAX_NS    8
#define MAX_GROUP 32

static struct plan *plan;
static char *base;

/* What the child says, in memory that both share; the parent waits in clone3 until the
 * child has executed its program or ended. */
static struct {
	const char *volatile step; /* what failed, 0 for nothing */
	volatile long error;
	volatile int last; /* the child has come to its execve */
} *verdict;

static char *at(u64 offset) { return base + offset; }

/* The answer is collected here and written in one piece. */
static char answer[1024];
static u64 answered;

static u64 now(int clock)
{
	struct timespec t = {0, 0};

	sys_clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void say(const char *text)
{
	while (*text && answered < sizeof(answer))
		answer[answered++] = *text++;
}

static void say_number(u64 n)
{
	char digits[24];
	int i = sizeof(digits);

	digits[--i] = 0;
	do
		digits[--i] = '0' + n % 10;
	while (n /= 10);
	say(digits + i);
}

static void say_step(const char *name, u64 from, u64 to)
{
	say("step ");
	say(name);
	say(" ");
	say_number(from);
	say(" ");
	say_number(to);
	say("\n");
}

static void __attribute__((noreturn)) finish(int code)
{
	say("end\n");
	sys_write(REPLY, answer, answered);
	sys_exit(code);
}

static void __attribute__((noreturn)) decline(const char *step, long error)
{
	answered = 0;
	say(plan && plan->birth ? "error internal birth." : "error internal enter.");
	say(step);
	say(" errno ");
	say_number(error < 0 ? -error : error);
	say("\n");
	finish(1);
}

static long check(const char *step, long result)
{
	if (result < 0)
		decline(step, result);
	return result;
}

/* ---- the child, in the container ---- */

static void __attribute__((noreturn)) give_up(const char *step, long error)
{
	if (plan->birth) /* the parent has ended */
		decline(step, error);
	verdict->error = error;
	verdict->step = step;
	sys_exit(255);
}

static long must(const char *step, long result)
{
	if (result < 0)
		give_up(step, result);
	return result;
}

static void load_filter(void)
{
	struct sock_fprog program = {plan->nfilter, (void *)at(plan->filter)};

	if (plan->nfilter)
		must("seccomp", sys_seccomp(SECCOMP_SET_MODE_FILTER, plan->filter_flags, &program));
}

/* Like libcontainer, HOME is what the container's passwd says of the user, and "/" where it
 * says nothing. A file that is not a plain small one is left to libcontainer. */
static char passwd[64 << 10];
static char home[4096 + 8];

static void find_home(void)
{
	u64 *last = (u64 *)at(plan->envp), n = 0, length;
	char *line, *end, *text = "/";
	struct stat st;
	long fd = sys_openat(AT_FDCWD, "/etc/passwd", O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0) {
		must("home", sys_fstat(fd, &st));
		if ((st.st_mode & S_IFMT) != S_IFREG || (u64)st.st_size >= sizeof(passwd))
			give_up("home", E2BIG);
		for (;;) {
			long got = must("home", sys_read(fd, passwd + n, sizeof(passwd) - 1 - n));

			if (got == 0)
				break;
			n += got;
			if (n == sizeof(passwd) - 1)
				give_up("home", E2BIG);
		}
		sys_close(fd);
	} else if (fd != -ENOENT && fd != -EACCES && fd != -ENOTDIR)
		give_up("home", fd);
	for (line = passwd, end = passwd + n; line < end;) {
		char *field[7] = {line}, *c;
		int fields = 1;
		u64 uid = 0;

		for (c = line; c < end && *c != '\n'; c++) {
			if (*c == 0 || *c == '\r' || ((*c == ' ' || *c == '\t') && fields < 4))
				give_up("home", EINVAL); /* an odd one */
			if (*c == ':') {
				*c = 0;
				if (fields < 7)
					field[fields] = c + 1;
				fields++;
			}
		}
		*c = 0;
		line = c + 1;
		if (fields == 1 && field[0][0] == 0)
			continue; /* an empty line */
		if (fields != 7 || field[2][0] == 0)
			give_up("home", EINVAL);
		for (c = field[2]; *c; c++) {
			if (*c < '0' || *c > '9' || uid > 0xffffffffull)
				give_up("home", EINVAL);
			uid = uid * 10 + (*c - '0');
		}
		if (uid == plan->uid) {
			text = field[5];
			break;
		}
	}
	for (n = 0; n < 5; n++)
		home[n] = "HOME="[n];
	for (length = 0; text[length]; length++) {
		if (n + 1 >= sizeof(home))
			give_up("home", E2BIG);
		home[n++] = text[length];
	}
	while (*last)
		last++;
	*last = (u64)home;
}

static int in_bounding(u64 cap) { return plan->bounding >> cap & 1; }

static void drop_bounding(void)
{
	for (u64 cap = 0; cap < 64; cap++) {
		long has = sys_prctl(PR_CAPBSET_READ, cap);

		if (has == -EINVAL)
			return; /* the kernel knows no more */
		must("capabilities", has);
		if (has && !in_bounding(cap))
			must("capabilities", sys_prctl(PR_CAPBSET_DROP, cap));
	}
}

static void apply_capabilities(void)
{
	struct { u32 version; int pid; } header = {LINUX_CAPABILITY_VERSION_3, 0};
	struct { u32 effective, permitted, inheritable; } data[2];

	for (int i = 0; i < 2; i++) {
		data[i].effective = plan->effective >> (32 * i);
		data[i].permitted = plan->permitted >> (32 * i);
		data[i].inheritable = plan->inheritable >> (32 * i);
	}
	must("capabilities", sys_capset(&header, data));
	must("capabilities", sys_prctl2(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0));
	for (u64 cap = 0; cap < 64; cap++)
		if (plan->ambient >> cap & 1)
			must("capabilities", sys_prctl2(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap));
}

/* The streams are made outside; the user shall be able to open them anew. */
static void own_streams(void)
{
	for (int fd = 0; fd < 3; fd++) {
		struct stat st;
		long e;

		must("user", sys_fstat(fd, &st));
		if (st.st_uid == plan->uid || ((st.st_mode & S_IFMT) == S_IFCHR && st.st_rdev == 0x103)) /* /dev/null */
			continue;
		e = sys_fchown(fd, plan->uid, -1);
		if (e < 0 && e != -EPERM && e != -EROFS)
			give_up("user", e);
	}
}

static void become_user(void)
{
	static u32 groups[65536];

	if (plan->ngroups > 65536)
		give_up("user", EINVAL);
	for (u64 i = 0; i < plan->ngroups; i++)
		groups[i] = ((u64 *)at(plan->groups))[i];
	own_streams();
	must("user", sys_setgroups(plan->ngroups, groups));
	must("user", sys_setresgid(plan->gid, plan->gid, plan->gid));
	must("user", sys_setresuid(plan->uid, plan->uid, plan->uid));
}

/* A directory that is not below the root of the mount namespace has no absolute path
 * (CVE-2024-21626). */
static void change_directory(void)
{
	static char where[4096 + 16];
	long e = sys_chdir(at(plan->cwd));

	if (e < 0)
		give_up("directory", e); /* only the user may enter it, perhaps; or it is not there */
	must("directory", sys_getcwd(where, sizeof(where)));
	if (where[0] != '/')
		give_up("directory", ENOENT);
}

/* whether the user may execute the file. */
static int executable(const char *file)
{
	struct stat st;

	return sys_newfstatat(AT_FDCWD, file, &st, 0) == 0 && (st.st_mode & S_IFMT) != S_IFDIR &&
	       sys_faccessat2(AT_FDCWD, file, X_OK, AT_EACCESS) == 0;
}

/* The command's file, looked up as the user, the first one that may be executed. */
static const char *look_up(const char *name)
{
	static char file[4096];
	const char *path;

	for (const char *c = name; *c; c++)
		if (*c == '/') {
			if (!executable(name))
				give_up("lookup", ENOENT);
			return name;
		}
	if (!plan->path)
		give_up("lookup", ENOENT);
	for (path = at(plan->path); *path;) {
		u64 n = 0;
		const char *c = name;

		if (*path != '/')
			give_up("lookup", ENOTDIR); /* relative to the working directory */
		for (; *path && *path != ':'; path++)
			if (n < sizeof(file) - 2)
				file[n++] = *path;
		file[n++] = '/';
		for (; *c && n < sizeof(file) - 1; c++)
			file[n++] = *c;
		if (*c || n >= sizeof(file) - 2)
			give_up("lookup", ENAMETOOLONG);
		file[n] = 0;
		if (executable(file))
			return file;
		if (*path == ':' && *++path == 0)
			give_up("lookup", ENOTDIR); /* a last element that is empty */
	}
	give_up("lookup", ENOENT);
}

/* "0" is this thread, the only one. Its own move, through a file of threads, needs no
 * lock against forks, and so no grace period: see __cgroup1_procs_write in
 * kernel/cgroup/cgroup-v1.c and cgroup_procs_write_start in cgroup.c. */
static void join_cgroups(long *tasks, u64 ntasks)
{
	for (u64 i = 0; i < ntasks; i++)
		must("cgroup", sys_write(tasks[i], "0", 1));
}

/* The daemon's own affinity is not the container's. */
static void any_cpu(void)
{
	static u8 cpus[8192];

	for (u64 i = 0; i < sizeof(cpus); i++)
		cpus[i] = 0xff;
	sys_sched_setaffinity(0, sizeof(cpus), cpus);
}

/* The file in which this process names the AppArmor profile that it gets by its execve; before
 * Linux 5.8 it was the other one. A file that only looks like it would take the name and do nothing
 * (CVE-2019-16884): so it is below a procfs that the container has not made, nothing that is mounted
 * there is entered, and what is found is asked what it is. "thread-self" is a symbolic link, but
 * not a magic one. Only who has opened it may write to it: proc_pid_attr_write, fs/proc/base.c. */
static long open_profile(long proc)
{
	struct open_how how = {O_WRONLY | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
	struct statfs fs;
	long fd = sys_openat2(proc, "thread-self/attr/apparmor/exec", &how);

	if (fd == -ENOENT)
		fd = sys_openat2(proc, "thread-self/attr/exec", &how);
	must("apparmor", fd);
	must("apparmor", sys_fstatfs(fd, &fs));
	if (fs.f_type != PROC_SUPER_MAGIC)
		give_up("apparmor", EPERM);
	return fd;
}

/* The kernel says whether there is such a profile. */
static void write_profile(long fd)
{
	const char *text = at(plan->apparmor);
	u64 n = 0;

	while (text[n])
		n++;
	if ((u64)must("apparmor", sys_write(fd, text, n)) != n)
		give_up("apparmor", EIO);
	sys_close(fd);
}

static void step_ends(const char *name);

/* Becomes the user, in the container's directory and with its capabilities and filter, and
 * returns the command's file. Without no_new_privs a filter needs privileges. */
static const char *become(void)
{
	const char *file;

	if (!plan->no_new_privs)
		load_filter();
	change_directory();
	if (plan->home)
		find_home();
	drop_bounding();
	must("capabilities", sys_prctl(PR_SET_KEEPCAPS, 1));
	become_user();
	must("capabilities", sys_prctl(PR_SET_KEEPCAPS, 0));
	apply_capabilities();
	if (plan->apparmor && !plan->birth)
		write_profile(PROFILE);
	file = look_up((char *)*(u64 *)at(plan->argv));
	if (plan->birth)
		step_ends("birth.credentials");
	if (plan->no_new_privs)
		load_filter();
	return file;
}

static void set_limits(void)
{
	u64 *limit = (u64 *)at(plan->rlimits);

	for (u64 i = 0; i < plan->nrlimits; i++, limit += 3)
		must("limits", sys_prlimit64(0, limit[0], limit + 1));
}

static void __attribute__((noreturn)) child(long *tasks, u64 ntasks, long cgroup, long proc)
{
	const char *file;
	u32 rest = PROFILE;
	long e;

	must("session", sys_setsid());
	/* What daemonises itself stays below this process, so that the session's end finds it
	 * (docs/decisions/0082). */
	must("session", sys_prctl(PR_SET_CHILD_SUBREAPER, 1));
	join_cgroups(tasks, ntasks);
	must("join", sys_setns(cgroup, CLONE_NEWCGROUP));
	if (plan->apparmor)
		must("apparmor", sys_dup3(open_profile(proc), rest++, O_CLOEXEC));
	/* Nothing of the host may be open when a path is looked up in the container (CVE-2024-21626):
	 * nothing but that file, to which no path leads further and which is closed when written. */
	must("descriptors", sys_close_range(rest, ~0u, 0));
	any_cpu();
	if (plan->keyring) {
		e = sys_keyctl(KEYCTL_JOIN_SESSION_KEYRING, (u64)at(plan->keyring), 0, 0);
		if (e < 0 && e != -ENOSYS)
			give_up("keyring", e);
	}
	if (plan->no_new_privs)
		must("privileges", sys_prctl2(PR_SET_NO_NEW_PRIVS, 1, 0));
	set_limits();
	file = become();
	verdict->last = 1;
	give_up("execute", sys_execve(file, (char **)at(plan->argv), (char **)at(plan->envp)));
}

#include "birth.h"

/* ---- the parent ---- */

static void relocate(u64 offset)
{
	for (u64 *p = (u64 *)at(offset); *p; p++)
		*p = (u64)at(*p);
}

static void read_plan(long fd)
{
	struct stat st;

	check("plan", sys_fstat(fd, &st));
	if ((u64)st.st_size < sizeof(*plan))
		decline("plan", EINVAL);
	base = (char *)check("plan", sys_mmap(st.st_size, MAP_PRIVATE, fd));
	plan = (struct plan *)base;
	if (plan->magic != MAGIC || plan->size != (u64)st.st_size) {
		plan = 0;
		decline("plan", EINVAL);
	}
	relocate(plan->argv);
	relocate(plan->envp);
	sys_close(fd);
}

/* An ignored signal and a blocked one stay so through execve. */
static void default_signals(void)
{
	u64 none[4] = {0};

	for (int signal = 1; signal <= 64; signal++)
		sys_rt_sigaction(signal, none);
	sys_rt_sigprocmask(none);
}

#include "pod.h"

/* A container that is frozen would freeze its new process. */
static void check_thawed(void)
{
	char state[16];
	const char *want = at(plan->thawed);
	long fd, n;

	if (!plan->freezer)
		return;
	fd = sys_openat(AT_FDCWD, at(plan->freezer), O_RDONLY | O_CLOEXEC);
	if (fd == -ENOENT)
		return;
	check("freezer", fd);
	n = check("freezer", sys_read(fd, state, sizeof(state)));
	for (long i = 0; want[i]; i++)
		if (i >= n || state[i] != want[i])
			decline("freezer", EBUSY);
	sys_close(fd);
}

static void set_oom_score(void)
{
	const char *score = at(plan->oom_score);
	u64 n = 0;
	long fd;

	if (!plan->oom_score)
		return;
	while (score[n])
		n++;
	fd = check("score", sys_openat(AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
	check("score", sys_write(fd, score, n));
	sys_close(fd);
}

static u64 open_tasks(long *tasks)
{
	u64 *dirs = (u64 *)at(plan->cgroups);
	static char file[4096 + 16];

	if (plan->ncgroups > MAX_GROUP)
		decline("cgroup", E2BIG);
	for (u64 i = 0; i < plan->ncgroups; i++) {
		u64 n = 0;

		for (const char *c = at(dirs[i]); *c; c++) {
			if (n >= 4096)
				decline("cgroup", ENAMETOOLONG);
			file[n++] = *c;
		}
		for (const char *c = "/tasks"; *c; c++)
			file[n++] = *c;
		file[n] = 0;
		tasks[i] = check("cgroup", sys_openat(AT_FDCWD, file, O_WRONLY | O_CLOEXEC));
	}
	return plan->ncgroups;
}

/* Joins what the container was given by path, and for the rest what its init is in; but the
 * cgroup namespace only afterwards, by what is returned: where cgroup v2 is mounted with
 * nsdelegate, as systemd does, no process of that namespace may come from a cgroup outside
 * of it, and the child is to be born into the container's (cgroup_procs_write_permission,
 * kernel/cgroup/cgroup.c). */
static long join_namespaces(void)
{
	long fds[MAX_NS], cgroup = PIDFD;
	u64 rest = NAMESPACES & ~CLONE_NEWCGROUP, *given = (u64 *)at(plan->namespaces);

	if (plan->nnamespaces > MAX_NS)
		decline("join", E2BIG);
	for (u64 i = 0; i < plan->nnamespaces; i++) {
		fds[i] = check("join", sys_openat(AT_FDCWD, at(given[2 * i + 1]), O_RDONLY | O_CLOEXEC));
		rest &= ~given[2 * i];
	}
	if (rest & ~CLONE_NEWNS)
		check("join", sys_setns(PIDFD, rest & ~CLONE_NEWNS));
	for (u64 i = 0; i < plan->nnamespaces; i++)
		if (given[2 * i] == CLONE_NEWCGROUP)
			cgroup = fds[i];
		else if (given[2 * i] != CLONE_NEWNS)
			check("join", sys_setns(fds[i], given[2 * i]));
	if (!(rest & CLONE_NEWNS))
		decline("join", EINVAL); /* its own is the one thing that every container has */
	check("join", sys_setns(PIDFD, CLONE_NEWNS));
	return cgroup;
}

/* The parent of a container's init: joins what is joined, makes what is new, and ends. The
 * init is its caller's child (CLONE_PARENT), who can wait for it. */
static void __attribute__((noreturn)) bear(u64 began)
{
	long tasks[MAX_GROUP], pid, unified = -1, fds[MAX_NS];
	u64 ntasks, *given = (u64 *)at(plan->namespaces);
	struct clone_args args = {0};

	last_step = began;
	must("descriptors", sys_close_range(OWN, ~0u, 0));
	/* Those that have a meaning are not given to anything else meanwhile. */
	for (int fd = EXEC; fd <= PROC; fd++)
		if (sys_fcntl(fd, F_GETFD, 0) < 0)
			must("descriptors", sys_dup3(fd == EXEC ? 2 : REPLY, fd, O_CLOEXEC));
	default_signals();
	set_oom_score();
	/* From here on processes of the container may see this one. */
	must("dumpable", sys_prctl(PR_SET_DUMPABLE, 0));
	ntasks = open_tasks(tasks);
	if (plan->unified)
		unified = check("cgroup", sys_openat(AT_FDCWD, at(plan->unified), O_PATH | O_DIRECTORY | O_CLOEXEC));
	step_ends("birth.init");
	if (plan->nnamespaces > MAX_NS)
		decline("join", E2BIG);
	for (u64 i = 0; i < plan->nnamespaces; i++)
		fds[i] = check("join", sys_openat(AT_FDCWD, at(given[2 * i + 1]), O_RDONLY | O_CLOEXEC));
	if (plan->bare)
		leave_host();
	for (u64 i = 0; i < plan->nnamespaces; i++)
		check("join", sys_setns(fds[i], given[2 * i]));
	args.flags = plan->fresh | CLONE_PARENT;
	if (unified >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = unified;
	}
	sys_prctl(PR_SET_NAME, (u64)"vitrine-init");
	pid = check("fork", sys_clone3(&args));
	if (pid == 0)
		born(tasks, ntasks);
	say("pid ");
	say_number(pid);
	say("\n");
	sys_write(REPLY, answer, answered);
	sys_exit(0);
}

void __attribute__((noreturn, used)) enter(u64 *stack)
{
	long tasks[MAX_GROUP], pid, cgroup, unified = -1, proc = -1;
	u64 ntasks, begun, began = now(CLOCK_REALTIME) - now(CLOCK_PROCESS_CPUTIME_ID);
	struct clone_args args = {0};

	for (int fd = REPLY; fd <= PLAN; fd++)
		sys_fcntl(fd, F_SETFD, FD_CLOEXEC);
	sys_prctl(PR_SET_NAME, (u64)"vitrine-enter");
	if (stack[0] == 1) {
		read_plan(PLAN);
		if (!plan->birth)
			decline("plan", EINVAL);
		bear(began);
	}
	if (stack[0] > 2)
		hold(stack[0], (char **)&stack[1]);
	if (stack[0] != 2)
		decline("plan", EINVAL);
	read_plan(check("plan", sys_openat(AT_FDCWD, (char *)stack[2], O_RDONLY | O_CLOEXEC)));
	if (plan->birth)
		decline("plan", EINVAL);
	default_signals();
	check_thawed();
	set_oom_score();
	/* From here on processes of the container may see this one. */
	check("dumpable", sys_prctl(PR_SET_DUMPABLE, 0));
	verdict = (void *)check("memory", sys_mmap(4096, MAP_SHARED | MAP_ANONYMOUS, -1));
	ntasks = open_tasks(tasks);
	if (plan->unified)
		unified = check("cgroup", sys_openat(AT_FDCWD, at(plan->unified), O_PATH | O_DIRECTORY | O_CLOEXEC));
	if (plan->apparmor) /* the container's may be anything */
		proc = check("apparmor", sys_openat(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
	begun = now(CLOCK_REALTIME);
	say_step("enter.init", began, begun);
	cgroup = join_namespaces();
	args.flags = CLONE_VFORK;
	args.exit_signal = SIGCHLD;
	if (unified >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = unified;
	}
	u64 joined = now(CLOCK_REALTIME);

	say_step("enter.join", begun, joined);
	pid = check("fork", sys_clone3(&args));
	if (pid == 0)
		child(tasks, ntasks, cgroup, proc);
	if (verdict->step) {
		sys_wait4(pid);
		decline(verdict->step, verdict->error);
	}
	if (!verdict->last) { /* somebody killed it */
		sys_wait4(pid);
		decline("execute", EINTR);
	}
	say_step("enter.execute", joined, now(CLOCK_REALTIME));
	say("pid ");
	say_number(pid);
	say("\n");
	finish(0);
}
