#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

/*
 * What has to be known before the Go runtime runs. Constructors with a priority run
 * before those without, so this one also runs before nsexec's.
 */

long long vitrine_birth; /* CLOCK_REALTIME of this process's fork, ns */
int vitrine_given;       /* bit n: descriptor n was open at birth and is no file of the runtime */
int vitrine_pipes;       /* bit n: it is a pipe */
int vitrine_spare;       /* the gate is a socket: no container has come yet */

static long long now(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t) < 0)
		return 0;
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

__attribute__((constructor(101))) static void born(void)
{
	/* The CPU time used so far is what fork, execve and the loader took. */
	vitrine_birth = now(CLOCK_REALTIME) - now(CLOCK_PROCESS_CPUTIME_ID);
	for (int fd = 3; fd <= 6; fd++) {
		struct stat st;

		/* None of these may reach a program that is executed. */
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			continue;
		vitrine_given |= 1 << fd;
		if (fstat(fd, &st) < 0)
			continue;
		if (S_ISFIFO(st.st_mode))
			vitrine_pipes |= 1 << fd;
		else if (fd == 6 && S_ISSOCK(st.st_mode)) /* launch.GateFD */
			vitrine_spare = 1;
	}
}
