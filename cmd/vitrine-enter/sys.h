/*
 * System calls without a C library: what enter.c uses of the kernel's interface, from its own
 * headers where those have it. Each returns a value below zero for an error.
 */
#include <asm/stat.h>
#include <asm/statfs.h>
#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/mman.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/signal.h>
#include <linux/sockios.h>
#include <linux/stat.h>
#include <linux/time.h>

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define X_OK 1
#define LINUX_CAPABILITY_VERSION_3 _LINUX_CAPABILITY_VERSION_3
#define O_PATH 010000000
#define AF_INET 2
#define SOCK_DGRAM 2
#define SOCK_CLOEXEC O_CLOEXEC
#define IFF_UP 1
#define MNT_DETACH 2
#define MOVE_ONTO (MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
#ifndef AT_EACCESS
#define AT_EACCESS 0x200
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ull
#endif
#define NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

#if defined(__x86_64__)

static inline long call(long n, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long r;

	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return r;
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall enter\n");

#elif defined(__aarch64__)

static inline long call(long n, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}

__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x0, sp\n\tb enter\n");

#else
#error "vitrine-enter is written for amd64 and arm64"
#endif

#define CALL(n, a, b, c, d, e, f) call(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static inline long sys_read(int fd, void *p, u64 n) { return CALL(__NR_read, fd, p, n, 0, 0, 0); }
static inline long sys_write(int fd, const void *p, u64 n) { return CALL(__NR_write, fd, p, n, 0, 0, 0); }
static inline long sys_openat(int dir, const char *path, int flags) { return CALL(__NR_openat, dir, path, flags, 0, 0, 0); }
static inline long sys_close(int fd) { return CALL(__NR_close, fd, 0, 0, 0, 0, 0); }
static inline long sys_close_range(u32 from, u32 to, u32 flags) { return CALL(__NR_close_range, from, to, flags, 0, 0, 0); }
static inline long sys_fcntl(int fd, int what, long arg) { return CALL(__NR_fcntl, fd, what, arg, 0, 0, 0); }
static inline long sys_fstat(int fd, struct stat *st) { return CALL(__NR_fstat, fd, st, 0, 0, 0, 0); }
static inline long sys_newfstatat(int dir, const char *path, struct stat *st, int flags) { return CALL(__NR_newfstatat, dir, path, st, flags, 0, 0); }
static inline long sys_faccessat2(int dir, const char *path, int mode, int flags) { return CALL(__NR_faccessat2, dir, path, mode, flags, 0, 0); }
static inline long sys_fchown(int fd, u32 uid, u32 gid) { return CALL(__NR_fchown, fd, uid, gid, 0, 0, 0); }
static inline long sys_chdir(const char *path) { return CALL(__NR_chdir, path, 0, 0, 0, 0, 0); }
static inline long sys_getcwd(char *p, u64 n) { return CALL(__NR_getcwd, p, n, 0, 0, 0, 0); }
static inline long sys_mmap(u64 n, int flags, int fd) { return CALL(__NR_mmap, 0, n, PROT_READ | PROT_WRITE, flags, fd, 0); }
static inline long sys_prctl(int what, u64 arg) { return CALL(__NR_prctl, what, arg, 0, 0, 0, 0); }
static inline long sys_prctl2(int what, u64 a, u64 b) { return CALL(__NR_prctl, what, a, b, 0, 0, 0); }
static inline long sys_setns(int fd, u64 flags) { return CALL(__NR_setns, fd, flags, 0, 0, 0, 0); }
static inline long sys_setsid(void) { return CALL(__NR_setsid, 0, 0, 0, 0, 0, 0); }
static inline long sys_setgroups(u64 n, const u32 *groups) { return CALL(__NR_setgroups, n, groups, 0, 0, 0, 0); }
static inline long sys_setresgid(u32 a, u32 b, u32 c) { return CALL(__NR_setresgid, a, b, c, 0, 0, 0); }
static inline long sys_setresuid(u32 a, u32 b, u32 c) { return CALL(__NR_setresuid, a, b, c, 0, 0, 0); }
static inline long sys_capset(void *header, void *data) { return CALL(__NR_capset, header, data, 0, 0, 0, 0); }
static inline long sys_prlimit64(int pid, u64 kind, const u64 *limit) { return CALL(__NR_prlimit64, pid, kind, limit, 0, 0, 0); }
static inline long sys_seccomp(int what, u64 flags, void *arg) { return CALL(__NR_seccomp, what, flags, arg, 0, 0, 0); }
static inline long sys_sched_setaffinity(int pid, u64 n, void *cpus) { return CALL(__NR_sched_setaffinity, pid, n, cpus, 0, 0, 0); }
static inline long sys_keyctl(int what, u64 a, u64 b, u64 c) { return CALL(__NR_keyctl, what, a, b, c, 0, 0); }
static inline long sys_rt_sigaction(int signal, const void *action) { return CALL(__NR_rt_sigaction, signal, action, 0, 8, 0, 0); }
static inline long sys_rt_sigprocmask(const void *set) { return CALL(__NR_rt_sigprocmask, SIG_SETMASK, set, 0, 8, 0, 0); }
static inline long sys_clone3(struct clone_args *args) { return CALL(__NR_clone3, args, sizeof(*args), 0, 0, 0, 0); }
static inline long sys_wait4(int pid) { return CALL(__NR_wait4, pid, 0, 0, 0, 0, 0); }
static inline long sys_execve(const char *file, char **argv, char **envp) { return CALL(__NR_execve, file, argv, envp, 0, 0, 0); }
static inline long sys_clock_gettime(int clock, struct timespec *t) { return CALL(__NR_clock_gettime, clock, t, 0, 0, 0, 0); }

/* For birth.h. */
static inline long sys_openat2(int dir, const char *path, struct open_how *how) { return CALL(__NR_openat2, dir, path, how, sizeof(*how), 0, 0); }
static inline long sys_openat4(int dir, const char *path, int flags, u32 mode) { return CALL(__NR_openat, dir, path, flags, mode, 0, 0); }
static inline long sys_mkdirat(int dir, const char *path, u32 mode) { return CALL(__NR_mkdirat, dir, path, mode, 0, 0, 0); }
static inline long sys_mknodat(int dir, const char *path, u32 mode, u64 device) { return CALL(__NR_mknodat, dir, path, mode, device, 0, 0); }
static inline long sys_symlinkat(const char *target, int dir, const char *path) { return CALL(__NR_symlinkat, target, dir, path, 0, 0, 0); }
static inline long sys_unlinkat(int dir, const char *path) { return CALL(__NR_unlinkat, dir, path, 0, 0, 0, 0); }
static inline long sys_fchownat(int fd, u32 uid, u32 gid) { return CALL(__NR_fchownat, fd, "", uid, gid, AT_EMPTY_PATH, 0); }
static inline long sys_fstatfs(int fd, struct statfs *st) { return CALL(__NR_fstatfs, fd, st, 0, 0, 0, 0); }
static inline long sys_fchdir(int fd) { return CALL(__NR_fchdir, fd, 0, 0, 0, 0, 0); }
static inline long sys_dup3(int fd, int to, int flags) { return CALL(__NR_dup3, fd, to, flags, 0, 0, 0); }
static inline long sys_umask(u32 mask) { return CALL(__NR_umask, mask, 0, 0, 0, 0, 0); }
static inline long sys_unshare(u64 flags) { return CALL(__NR_unshare, flags, 0, 0, 0, 0, 0); }
static inline long sys_mount(const char *source, const char *target, const char *type, u64 flags) { return CALL(__NR_mount, source, target, type, flags, 0, 0); }
static inline long sys_umount2(const char *target, int flags) { return CALL(__NR_umount2, target, flags, 0, 0, 0, 0); }
static inline long sys_chroot(const char *path) { return CALL(__NR_chroot, path, 0, 0, 0, 0, 0); }
static inline long sys_pivot_root(const char *root, const char *old) { return CALL(__NR_pivot_root, root, old, 0, 0, 0, 0); }
static inline long sys_fsopen(const char *type) { return CALL(__NR_fsopen, type, FSOPEN_CLOEXEC, 0, 0, 0, 0); }
static inline long sys_fsconfig(int fs, u32 what, const char *key, const char *value) { return CALL(__NR_fsconfig, fs, what, key, value, 0, 0); }
static inline long sys_fsmount(int fs, u64 attributes) { return CALL(__NR_fsmount, fs, FSMOUNT_CLOEXEC, attributes, 0, 0, 0); }
static inline long sys_open_tree(int dir, const char *path, u32 flags) { return CALL(__NR_open_tree, dir, path, flags, 0, 0, 0); }
static inline long sys_move_mount(int fd, int target) { return CALL(__NR_move_mount, fd, "", target, "", MOVE_ONTO, 0); }
static inline long sys_mount_setattr(int fd, u32 flags, struct mount_attr *attr) { return CALL(__NR_mount_setattr, fd, "", flags, attr, sizeof(*attr), 0); }
static inline long sys_sethostname(const char *name, u64 n) { return CALL(__NR_sethostname, name, n, 0, 0, 0, 0); }
static inline long sys_setdomainname(const char *name, u64 n) { return CALL(__NR_setdomainname, name, n, 0, 0, 0, 0); }
static inline long sys_socket(int family, int kind) { return CALL(__NR_socket, family, kind, 0, 0, 0, 0); }
static inline long sys_ioctl(int fd, u64 what, void *arg) { return CALL(__NR_ioctl, fd, what, arg, 0, 0, 0); }

static inline void __attribute__((noreturn)) sys_exit(int code)
{
	for (;;)
		CALL(__NR_exit_group, code, 0, 0, 0, 0, 0);
}
