/*
 * stopwatch stands in a CNI plugin's place, under its name, and runs the plugin of that
 * name in the directory of/ beside it, with the same input, output, environment and exit
 * status. To the file times beside it it appends one line: command, container, plugin,
 * and the nanoseconds of CLOCK_MONOTONIC at which the plugin was begun and had ended.
 *
 * It is freestanding, as vitrine-enter is, so that it adds a tenth of a millisecond to what
 * is measured and not a whole one.
 */
#include "../../../cmd/vitrine-enter/sys.h"

#define STATUS_OF_A_STOPWATCH_THAT_FAILED 70

static u64 length(const char *s)
{
	u64 n = 0;

	while (s[n])
		n++;
	return n;
}

static const char *value_of(char **env, const char *key)
{
	for (; *env; env++) {
		u64 i = 0;

		while (key[i] && (*env)[i] == key[i])
			i++;
		if (!key[i] && (*env)[i] == '=')
			return *env + i + 1;
	}
	return "-";
}

/* A path or a line. What has no room is cut off, and then is no path or line of anybody's. */
struct text {
	char at[4096];
	u64 n;
};

static int fail(const char *what)
{
	sys_write(2, "stopwatch: ", 11);
	sys_write(2, what, length(what));
	sys_write(2, "\n", 1);
	return STATUS_OF_A_STOPWATCH_THAT_FAILED;
}

static void append(struct text *t, const char *s, u64 n)
{
	for (u64 i = 0; i < n && t->n + 1 < sizeof(t->at); i++)
		t->at[t->n++] = s[i];
	t->at[t->n] = 0;
}

static void append_number(struct text *t, u64 v)
{
	char digits[20];
	u64 n = sizeof(digits);

	do {
		digits[--n] = '0' + v % 10;
		v /= 10;
	} while (v);
	append(t, digits + n, sizeof(digits) - n);
}

static u64 now(void)
{
	struct timespec t = {0, 0};

	sys_clock_gettime(1 /* CLOCK_MONOTONIC */, &t);
	return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

static int run(char **argv, char **env)
{
	static struct text plugin, times, line;
	struct clone_args args = {.exit_signal = 17 /* SIGCHLD */};
	u64 slash = length(argv[0]), from;
	int status = 0;
	long pid, fd;

	while (slash && argv[0][slash - 1] != '/')
		slash--;
	append(&plugin, argv[0], slash);
	append(&plugin, "of/", 3);
	append(&plugin, argv[0] + slash, length(argv[0] + slash));
	append(&times, argv[0], slash);
	append(&times, "times", 5);

	from = now();
	pid = sys_clone3(&args);
	if (pid == 0) {
		sys_execve(plugin.at, argv, env);
		sys_exit(fail("the plugin does not start"));
	}
	if (pid < 0)
		return fail("fork");
	if (CALL(__NR_wait4, pid, &status, 0, 0, 0, 0) != pid)
		return fail("wait");

	append(&line, value_of(env, "CNI_COMMAND"), length(value_of(env, "CNI_COMMAND")));
	append(&line, " ", 1);
	append(&line, value_of(env, "CNI_CONTAINERID"), length(value_of(env, "CNI_CONTAINERID")));
	append(&line, " ", 1);
	append(&line, argv[0] + slash, length(argv[0] + slash));
	append(&line, " ", 1);
	append_number(&line, from);
	append(&line, " ", 1);
	append_number(&line, now());
	append(&line, "\n", 1);
	fd = sys_openat4(AT_FDCWD, times.at, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0 || sys_write(fd, line.at, line.n) != (long)line.n)
		return fail("write its line");
	if (status & 0x7f)
		return 128 + (status & 0x7f);
	return status >> 8 & 0xff;
}

/* The stack at the beginning (System V ABI, "Process Initialization"): argc, argv, a null, env. */
void __attribute__((noreturn, used)) enter(u64 *stack)
{
	char **argv = (char **)(stack + 1);

	sys_exit(run(argv, argv + stack[0] + 1));
}
