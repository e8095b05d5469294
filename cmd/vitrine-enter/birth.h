/*
 * A container's init, from its first instruction to the user's program: what libcontainer's
 * init does for an ordinary container, in its order. Included by enter.c; package
 * launch/enter describes the plan (Birth), launch/libct decides what is ordinary.
 *
 *	descriptor 0-2	the process's standard streams
 *	descriptor 3	write end of a pipe for the answers, below
 *	descriptor 4	read end of a pipe: bytes that let it go on, end of file ends it
 *	descriptor 5	write end of a pipe for what became of the execve, or not open
 *	descriptor 6	the exec fifo, O_PATH
 *	descriptor 7	the plan
 *
 * The answers are lines of launch.Reply. Who made the plan reads "pid N" of the parent, then
 * "mounted" and "ready" of the init. At "mounted" it limits the cgroup, at "ready" it
 * writes the container's state and a byte, and the init goes to its fifo. Before that byte
 * everything can be given up by ending the init: its mount namespace goes with it.
 *
 * What the image holds is hostile, and so is who shares a volume with this container while
 * it is made. So no path of the container is ever given to a call that follows it on its
 * own: each is looked up once, with openat2 below the root and without magic links, and all
 * that follows is done to that descriptor. File systems are mounted detached and moved onto
 * it (fsopen(2), open_tree(2), move_mount(2)), so that none has to be found again. The
 * paths of the host are the daemon's own.
 */

/* Operations on the root file system: launch/enter, Op. */
struct op {
	u64 kind;
	u64 path;               /* in the container, clean and absolute */
	u64 source, type, data; /* strings */
	u64 flags;
	u64 set, clear;         /* of mount_setattr(2), or fsmount(2)'s; mode and device of a node */
	u64 propagation;        /* MS_PRIVATE, MS_SLAVE, MS_REC; owner of a node */
	u64 rec_set, rec_clear; /* the same for the whole tree */
};

enum { OP_MOUNT = 1, OP_BIND, OP_NODE, OP_LINK, OP_UNLINK };

enum {
	OP_READ_ONLY_SUPER = 1, /* the file system itself is read-only */
	OP_PLAIN = 2,           /* no symbolic link may be on the way */
	OP_MODE = 4,            /* the mode of a directory that is there is the file system's */
	OP_LATE_READ_ONLY = 8,  /* becomes read-only when all is made */
	OP_RECURSIVE = 16,      /* with what is mounted below the source */
	OP_ATTRIBUTES = 32,     /* set and clear count */
};

enum {
	BIRTH_CGROUP = 1,         /* a cgroup namespace of its own */
	BIRTH_WAIT = 2,           /* somebody else puts it into its cgroup */
	BIRTH_LOOPBACK = 4,       /* the network namespace is new */
	BIRTH_READ_ONLY_ROOT = 8,
	BIRTH_OWN_DEV = 16,       /* /dev is the container's own */
	BIRTH_ANY = 32,           /* always, so that the word is not zero */
};

#define GATE    4
#define EXEC    5
#define FIFO    6
#define PLAN    7
#define OWN     8 /* own_descriptors */
#define PROC    9 /* own_proc */
#define KEPT    32

static long root;                  /* the container's root, then what "/" is */
static struct stat top;            /* of it */
static long kept[KEPT], nkept;     /* mounts that become read-only at last */
static long host, here, slash;     /* the mount namespaces of a bare birth, and its first "/" */
static u64 last_step;

/* The time since the step before has this name. */
static void step_ends(const char *name)
{
	u64 at = now(CLOCK_REALTIME);

	say_step(name, last_step, at);
	last_step = at;
}

static void tell(void)
{
	must("answer", sys_write(REPLY, answer, answered));
	answered = 0;
}

/* Waits for a byte. Without one nobody wants the container any more. */
static void await(void)
{
	char byte;

	if (sys_read(GATE, &byte, 1) != 1)
		sys_exit(255);
}

static long take_from_host(const char *path, int recursive);

#include "rootfs.h"

/* A procfs of the init's own that nothing is mounted on and that no path leads to. */
static void own_proc(void)
{
	long fd = new_mount("proc", "proc", 0, 0, 0, 0);

	must("proc", sys_dup3(fd, PROC, O_CLOEXEC));
	sys_close(fd);
}

/* In its place comes what is left when paths of the container are followed: the directory of
 * this process's own descriptors, as a mount without a parent, so that ".." leads nowhere. */
static void own_descriptors(void)
{
	long dir = must("proc", look("/proc/self/fd", 0));
	long fd = must("proc", sys_open_tree(dir, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));

	must("proc", sys_dup3(fd, OWN, O_CLOEXEC));
	sys_close(fd);
	sys_close(dir);
}

static void join_keyring(void)
{
	char text[512];
	u64 n, field = 0, permissions = 0;
	long ring = sys_keyctl(KEYCTL_JOIN_SESSION_KEYRING, (u64)at(plan->keyring), 0, 0);

	if (ring == -ENOSYS)
		return;
	must("keyring", ring);
	/* "TYPE;UID;GID;PERMISSIONS;NAME", keyctl_describe(3) */
	n = must("keyring", sys_keyctl(KEYCTL_DESCRIBE, ring, (u64)text, sizeof(text)));
	if (n >= sizeof(text))
		give_up("keyring", E2BIG);
	for (u64 i = 0; i < n && field < 4; i++) {
		char c = text[i];

		if (c == ';')
			field++;
		else if (field == 3)
			permissions = permissions << 4 | (u64)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
	}
	if (field != 4)
		give_up("keyring", EINVAL);
	must("keyring", sys_keyctl(KEYCTL_SETPERM, ring, permissions | 0x80000, 0)); /* its own user may search it */
}

static void loopback_up(void)
{
	struct { char name[16]; short flags; char rest[22]; } request = {"lo", 0, {0}};
	long fd = must("loopback", sys_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC));

	must("loopback", sys_ioctl(fd, SIOCGIFFLAGS, &request));
	request.flags |= IFF_UP;
	must("loopback", sys_ioctl(fd, SIOCSIFFLAGS, &request));
	sys_close(fd);
}

/* A copy of what is mounted at a path of the host, as the copy of all of the host's mounts
 * would have it: it hears of what happens there, and the other way it does not. */
static long take(const char *path, int recursive)
{
	long fd = check("source", sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0)));
	struct mount_attr attr = {0, 0, plan->root_propagation & ~MS_REC, 0};

	check("source", sys_mount_setattr(fd, AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr));
	return fd;
}

/* The parent goes to where there are few mounts: its child's namespace is a copy of that one, and
 * the host's has as many as there are containers (docs/decisions/0189). The root comes along. */
static void leave_host(void)
{
	long bare = check("bare", sys_openat(AT_FDCWD, at(plan->bare), O_RDONLY | O_CLOEXEC));

	host = check("bare", sys_openat(AT_FDCWD, "/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
	root = take(at(plan->root), 1);
	check("bare", sys_setns(bare, CLONE_NEWNS));
	sys_close(bare);
}

/* The root lies over that of the bare namespace, whose mounts are nobody's peers. */
static void attach_root(void)
{
	slash = must("root", sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC));
	attach(root, slash);
	must("root", sys_fstat(root, &top));
	here = must("root", sys_openat(AT_FDCWD, "/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
}

/* What is bound is taken where it is, and in its turn: mounts are listed in the order in which
 * they were made, and one is expected behind that which it is on. Meanwhile "/" changes; until
 * come_back nothing but descriptors and paths of the host are used. */
static long take_from_host(const char *path, int recursive)
{
	long fd;

	must("source", sys_setns(host, CLONE_NEWNS));
	fd = take(path, recursive);
	must("source", sys_setns(here, CLONE_NEWNS));
	return fd;
}

static void come_back(void)
{
	must("root", sys_fchdir(slash));
	must("root", sys_chroot("."));
	sys_close(slash);
	sys_close(here);
	sys_close(host);
}

/* The mounts of the host are seen here and nothing of here is seen there. */
static void prepare_root(void)
{
	char path[PATHS];
	u64 n = 0;
	long e;

	if (plan->bare) {
		attach_root();
		return;
	}
	for (const char *c = at(plan->root); *c; c++) {
		if (n == sizeof(path) - 1)
			give_up("root", ENAMETOOLONG);
		path[n++] = *c;
	}
	path[n] = 0;
	must("root", sys_mount(0, "/", 0, plan->root_propagation));
	/* The mount that the root is on must not be shared: pivot_root(2) wants that. */
	while ((e = sys_mount(0, path[0] ? path : "/", 0, plan->parent_propagation)) == -EINVAL && path[0])
		cut_last(path);
	must("root", e);
	must("root", sys_mount(at(plan->root), at(plan->root), 0, MS_BIND | MS_REC));
	root = must("root", sys_openat(AT_FDCWD, at(plan->root), O_PATH | O_DIRECTORY | O_CLOEXEC));
	must("root", sys_fstat(root, &top));
}

static void furnish(void)
{
	struct op *op = (struct op *)at(plan->ops);

	for (u64 i = 0; i < plan->nops; i++, op++)
		switch (op->kind) {
		case OP_MOUNT: do_mount(op); break;
		case OP_BIND: do_bind(op); break;
		case OP_NODE: do_node(op); break;
		case OP_LINK: do_link(op); break;
		case OP_UNLINK: do_unlink(op); break;
		default: give_up("plan", EINVAL);
		}
}

/* pivot_root(".", "."), as its manual has it: the old root lies over the new one and is
 * taken away. What it lets go must not be seen by the host, hence the slave. */
static void pivot(void)
{
	long old = must("pivot", sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC));

	must("pivot", sys_fchdir(root));
	must("pivot", sys_pivot_root(".", "."));
	must("pivot", sys_fchdir(old));
	must("pivot", sys_mount(0, ".", 0, MS_SLAVE | MS_REC));
	must("pivot", sys_umount2(".", MNT_DETACH));
	must("pivot", sys_chdir("/"));
	sys_close(old);
	sys_close(root);
	root = must("pivot", sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC));
}

static int is_null(struct stat *st) { return (st->st_mode & S_IFMT) == S_IFCHR && st->st_rdev == 0x103; }

/* The host's /dev/null does not stay open in the container. Before "mounted", because while the
 * rules of cgroup v1 are set after that, there is a moment at which they deny all devices. */
static void reopen_null(void)
{
	struct stat st;
	struct open_how how = {O_RDWR | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	long fd = must("null", sys_openat2(root, "/dev/null", &how));

	must("null", sys_fstat(fd, &st));
	if (!is_null(&st))
		give_up("null", ENODEV);
	for (int i = 0; i < 3; i++) {
		must("null", sys_fstat(i, &st));
		if (is_null(&st))
			must("null", sys_dup3(fd, i, 0));
	}
	sys_close(fd);
}

static void make_directory(void)
{
	long fd = look(at(plan->cwd), 0);

	if (fd == -ENOENT)
		fd = make(at(plan->cwd), 0);
	if (fd >= 0)
		sys_close(fd);
}

static void write_sysctls(void)
{
	u64 *pair = (u64 *)at(plan->sysctls);
	struct open_how how = {O_WRONLY | O_TRUNC | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};

	for (u64 i = 0; i < plan->nsysctls; i++, pair += 2) {
		char *value = at(pair[1]);
		u64 n = 0;
		long fd = must("sysctl", sys_openat2(PROC, at(pair[0]), &how));

		while (value[n])
			n++;
		if ((u64)must("sysctl", sys_write(fd, value, n)) != n)
			give_up("sysctl", EIO);
		sys_close(fd);
	}
}

/* Like libcontainer, what is missing needs no cover. */
static long find(const char *path)
{
	long fd = look(path, 0);

	return fd == -ENOENT ? -1 : must("cover", fd);
}

static void make_read_only(void)
{
	for (u64 *path = (u64 *)at(plan->readonly); *path; path++) {
		long copy, fd = find(at(*path));

		if (fd < 0)
			continue;
		copy = must("cover", sys_open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH));
		set_attributes(copy, MOUNT_ATTR_RDONLY, 0, 0, 0);
		attach(copy, fd);
		sys_close(copy);
		sys_close(fd);
	}
}

/* Files lie under the container's /dev/null, directories under one empty file system. */
static void mask(void)
{
	u64 *path = (u64 *)at(plan->masked);
	struct stat st;
	long null = -1, empty = -1;

	for (; *path; path++) {
		long copy, fd = find(at(*path));

		if (fd < 0)
			continue;
		must("cover", sys_fstat(fd, &st));
		if ((st.st_mode & S_IFMT) != S_IFDIR) {
			if (null < 0) {
				null = must("cover", look("/dev/null", 0));
				must("cover", sys_fstat(null, &st));
				if (!is_null(&st))
					give_up("cover", ENODEV);
			}
			copy = must("cover", sys_open_tree(null, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
		} else if (empty < 0) {
			char options[] = "nr_blocks=1,nr_inodes=1";

			copy = empty = new_mount("tmpfs", "tmpfs", options, 0, 1, MOUNT_ATTR_RDONLY);
		} else
			copy = must("cover", sys_open_tree(empty, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
		attach(copy, fd);
		if (copy != empty)
			sys_close(copy);
		sys_close(fd);
	}
}

static void finish_root(void)
{
	for (long i = 0; i < nkept; i++)
		set_attributes(kept[i], MOUNT_ATTR_RDONLY, 0, 0, 0);
	if (plan->birth & BIRTH_READ_ONLY_ROOT)
		must("root", sys_mount(0, "/", 0, MS_BIND | MS_REMOUNT | MS_RDONLY));
	sys_umask(022);
}

static u64 length(const char *text)
{
	u64 n = 0;

	while (text[n])
		n++;
	return n;
}

/* What execve refuses, in the words that package launch takes apart (ExecError). */
static void __attribute__((noreturn)) not_executed(const char *file, long error)
{
	static const struct { int error; const char *text; } words[] = {
		{ENOENT, "no such file or directory"}, {ENOEXEC, "exec format error"}, {EACCES, "permission denied"},
		{EPERM, "operation not permitted"}, {ENOTDIR, "not a directory"}, {ETXTBSY, "text file busy"},
		{E2BIG, "argument list too long"}, {ENOMEM, "cannot allocate memory"}, {EISDIR, "is a directory"},
	};
	int i = 0;

	answered = 0;
	say("exec ");
	say(file);
	say(": ");
	while (i < (int)(sizeof(words) / sizeof(words[0])) && words[i].error != -error)
		i++;
	if (i < (int)(sizeof(words) / sizeof(words[0])))
		say(words[i].text);
	else {
		say("errno ");
		say_number(-error);
	}
	say("\n");
	if (sys_write(EXEC, answer, answered) < 0)
		sys_write(2, answer, answered);
	sys_exit(255);
}

static void __attribute__((noreturn)) born(long *tasks, u64 ntasks)
{
	const char *file;
	long fifo;

	answered = 0;
	step_ends("birth.namespaces");
	if (plan->birth & BIRTH_WAIT)
		await();
	must("session", sys_setsid());
	join_cgroups(tasks, ntasks);
	any_cpu();
	if (plan->birth & BIRTH_CGROUP) /* after it has come into the cgroup that is to be its root */
		must("cgroup", sys_unshare(CLONE_NEWCGROUP));
	if (plan->keyring)
		join_keyring();
	if (plan->birth & BIRTH_LOOPBACK)
		loopback_up();
	step_ends("birth.cgroup");

	prepare_root();
	own_proc();
	furnish();
	if (plan->bare)
		come_back();
	own_descriptors();
	if (plan->birth & BIRTH_OWN_DEV)
		reopen_null();
	step_ends("birth.rootfs");
	say("mounted\n");
	tell();

	pivot();
	make_directory();
	finish_root();
	step_ends("birth.pivot");

	if (plan->hostname)
		must("hostname", sys_sethostname(at(plan->hostname), length(at(plan->hostname))));
	if (plan->domainname)
		must("hostname", sys_setdomainname(at(plan->domainname), length(at(plan->domainname))));
	if (plan->apparmor)
		write_profile(open_profile(PROC));
	write_sysctls();
	make_read_only();
	mask();
	/* Nothing of the host may be open when a path is looked up in the container (CVE-2024-21626). */
	must("descriptors", sys_close_range(PROC, ~0u, 0));
	sys_close(PLAN);
	step_ends("birth.cover");

	if (plan->no_new_privs)
		must("privileges", sys_prctl2(PR_SET_NO_NEW_PRIVS, 1, 0));
	set_limits();
	file = become();
	step_ends("birth.seccomp");
	say("ready\n");
	tell();
	await();
	/* Opening a fifo for writing waits for who opens it for reading: the start. The descriptor
	 * of its name is opened as what it names (fifo(7), proc_pid_fd(5)). */
	fifo = sys_openat(OWN, "6", O_WRONLY | O_CLOEXEC);
	if (fifo < 0 || sys_write(fifo, "0", 1) != 1)
		not_executed(file, fifo < 0 ? fifo : -EIO);
	/* execve follows a path before it closes anything. */
	for (int fd = REPLY; fd <= OWN; fd++)
		if (fd != EXEC)
			sys_close(fd);
	sys_close(fifo);
	not_executed(file, sys_execve(file, (char **)at(plan->argv), (char **)at(plan->envp)));
}
