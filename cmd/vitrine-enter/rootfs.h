/*
 * The container's root file system as its plan has it: paths, looked up once; mounts, moved onto
 * what was looked up; nodes and links. Included by birth.h, which says what is trusted.
 */

/* ---- paths ---- */

#define PATHS 4096

/* A path in the container: its descriptor can do nothing but name it. */
static long look(const char *path, u64 extra)
{
	struct open_how how = {O_PATH | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | extra};

	return sys_openat2(root, path, &how);
}

/* The last part of a path, which is cut off. */
static char *cut_last(char *path)
{
	char *slash = path;

	for (char *c = path; *c; c++)
		if (*c == '/')
			slash = c;
	*slash = 0;
	return slash + 1;
}

static long make(const char *path, int file);

/* The directory that a path is in, made if it is not there. Last is its last part. */
static long parent(const char *path, char **last, char *room)
{
	u64 n = 0;
	long dir;

	for (; path[n]; n++) {
		if (n == PATHS - 1)
			give_up("path", ENAMETOOLONG);
		room[n] = path[n];
	}
	room[n] = 0;
	*last = cut_last(room);
	dir = look(room[0] ? room : "/", 0);
	if (dir == -ENOENT)
		dir = make(room, 0);
	return must("path", dir);
}

/* Makes a directory or a file that is missing and returns it. A name that is there all
 * the same, a link that leads nowhere for instance, is left to libcontainer. */
static long make(const char *path, int file)
{
	char room[PATHS], *last;
	struct open_how how = {O_PATH | O_CLOEXEC | O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	static int depth;
	long dir, fd;

	if (!path[0] || ++depth > 64)
		give_up("path", ELOOP);
	dir = parent(path, &last, room);
	if (file)
		sys_close(must("path", sys_openat4(dir, last, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644)));
	else
		must("path", sys_mkdirat(dir, last, 0755));
	fd = must("path", sys_openat2(dir, last, &how));
	sys_close(dir);
	depth--;
	return fd;
}

/* Where something is to be mounted. Never the root itself, nor below a procfs: see
 * libcontainer's checkProcMount. The first mount is the container's own procfs, so what
 * lies below its /proc is seen to be in one. */
static long mount_point(struct op *op, int file, int *there)
{
	u64 extra = op->flags & OP_PLAIN ? RESOLVE_NO_SYMLINKS : 0;
	long fd = look(at(op->path), extra);
	struct statfs fs;
	struct stat st;

	*there = fd != -ENOENT;
	if (!*there)
		fd = make(at(op->path), file);
	must("target", fd);
	must("target", sys_fstat(fd, &st));
	must("target", sys_fstatfs(fd, &fs));
	if (st.st_dev == top.st_dev && st.st_ino == top.st_ino)
		give_up("target", EBUSY);
	if (fs.f_type == PROC_SUPER_MAGIC)
		give_up("target", EPERM);
	return fd;
}

/* ---- mounts ---- */

static void set_text(long fs, const char *key, const char *value)
{
	must("mount", sys_fsconfig(fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value));
}

/* The options of mount(2)'s data: KEY=VALUE or KEY, between commas. It is taken apart. */
static void set_options(long fs, char *data)
{
	while (*data) {
		char *key = data, *value = 0;

		for (; *data && *data != ','; data++)
			if (*data == '=' && !value) {
				*data = 0;
				value = data + 1;
			}
		if (*data)
			*data++ = 0;
		if (*key)
			set_text(fs, key, value);
	}
}

static void set_attributes(long fd, u64 set, u64 clear, u64 propagation, int recursive)
{
	struct mount_attr attr = {set, clear, propagation, 0};

	must("mount", sys_mount_setattr(fd, AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr));
}

static void attach(long fd, long target)
{
	must("mount", sys_move_mount(fd, target));
}

/* A new file system, not mounted anywhere yet. Mode is the octal one to begin with. */
static long new_mount(const char *type, const char *source, char *data, const char *mode, int read_only, u64 attributes)
{
	long fd, fs = must("mount", sys_fsopen(type));

	set_text(fs, "source", source);
	if (read_only)
		set_text(fs, "ro", 0);
	if (mode)
		set_text(fs, "mode", mode);
	if (data)
		set_options(fs, data);
	must("mount", sys_fsconfig(fs, FSCONFIG_CMD_CREATE, 0, 0));
	fd = must("mount", sys_fsmount(fs, attributes));
	sys_close(fs);
	return fd;
}

static void propagate(struct op *op, long fd)
{
	if (op->propagation)
		set_attributes(fd, 0, 0, op->propagation & ~MS_REC, !!(op->propagation & MS_REC));
}

static void do_mount(struct op *op)
{
	int there;
	char mode[5] = {0};
	struct stat st;
	long fd, target = mount_point(op, 0, &there);

	must("target", sys_fstat(target, &st));
	if ((st.st_mode & S_IFMT) != S_IFDIR)
		give_up("target", ENOTDIR);
	if (there && op->flags & OP_MODE)
		for (int i = 0; i < 4; i++)
			mode[i] = '0' + (st.st_mode >> (9 - 3 * i) & 7);
	fd = new_mount(at(op->type), at(op->source), at(op->data), mode[0] ? mode : 0, !!(op->flags & OP_READ_ONLY_SUPER), op->set);
	propagate(op, fd);
	attach(fd, target);
	sys_close(target);
	if (!(op->flags & OP_LATE_READ_ONLY)) {
		sys_close(fd);
		return;
	}
	if (nkept == KEPT)
		give_up("mount", E2BIG);
	kept[nkept++] = fd;
}

/* The source is the host's path, which the daemon has chosen. */
static void do_bind(struct op *op)
{
	int there;
	struct stat st;
	long target, fd;

	if (plan->bare)
		fd = take_from_host(at(op->source), !!(op->flags & OP_RECURSIVE));
	else
		fd = must("source", sys_open_tree(AT_FDCWD, at(op->source), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (op->flags & OP_RECURSIVE ? AT_RECURSIVE : 0)));
	must("source", sys_fstat(fd, &st));
	target = mount_point(op, (st.st_mode & S_IFMT) != S_IFDIR, &there);
	propagate(op, fd);
	if (op->flags & OP_ATTRIBUTES)
		set_attributes(fd, op->set, op->clear, 0, 0);
	if (op->rec_set | op->rec_clear)
		set_attributes(fd, op->rec_set, op->rec_clear, 0, 1);
	attach(fd, target);
	sys_close(target);
	sys_close(fd);
}

/* ---- what else is in the root ---- */

static void do_node(struct op *op)
{
	char room[PATHS], *last;
	struct open_how how = {O_PATH | O_CLOEXEC | O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	struct stat st;
	long fd, dir = parent(at(op->path), &last, room), mask = sys_umask(0);
	long e = sys_mknodat(dir, last, op->set, op->clear);

	sys_umask(mask);
	if (e != -EEXIST) { /* one that is there is taken, like libcontainer does */
		must("node", e);
		if (op->propagation) {
			fd = must("node", sys_openat2(dir, last, &how));
			must("node", sys_fstat(fd, &st));
			if (st.st_rdev != op->clear || st.st_mode != op->set)
				give_up("node", EEXIST);
			must("node", sys_fchownat(fd, op->propagation & 0xffffffff, op->propagation >> 32));
			sys_close(fd);
		}
	}
	sys_close(dir);
}

static void do_link(struct op *op)
{
	char room[PATHS], *last;
	long dir = parent(at(op->path), &last, room);
	long e = sys_symlinkat(at(op->source), dir, last);

	if (e != -EEXIST || op->flags)
		must("link", e);
	sys_close(dir);
}

static void do_unlink(struct op *op)
{
	char room[PATHS], *last;
	long dir = parent(at(op->path), &last, room);
	long e = sys_unlinkat(dir, last);

	if (e != -ENOENT)
		must("link", e);
	sys_close(dir);
}
