package spec

import (
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultProfile is the profile that RuntimeDefault means: what programs need is
// allowed, what reaches into the host or the kernel's less trodden parts fails with
// EPERM. It is shared and must not be modified.
var DefaultProfile = sync.OnceValue(defaultProfile)

// Values of the kernel's interface.
const (
	errnoEPERM   = 1
	errnoENOSYS  = 38
	familyVSOCK  = 40         // AF_VSOCK: its addresses are the hypervisor's, not the network namespace's
	cloneNewMask = 0x7E020000 // CLONE_NEWNS|NEWCGROUP|NEWUTS|NEWIPC|NEWUSER|NEWPID|NEWNET
)

// safeCalls are allowed for everybody on every architecture that has them. Their
// number is also what tells an old kernel's missing call (ENOSYS) from a forbidden
// one: the runtime answers ENOSYS for calls newer than the newest known here.
const safeCalls = `
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
eventfd eventfd2 execve execveat exit exit_group
faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32
fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr file_setattr flistxattr flock fork fremovexattr fsetxattr
fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64
futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat
getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid
getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday
getuid getuid32 getxattr getxattrat
inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents
io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc
kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat
listen listmount listns listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lsm_get_self_attr
lsm_list_modules lsm_set_self_attr lstat lstat64
madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2
mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
name_to_handle_at nanosleep newfstatat _newselect
open openat openat2
pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2
read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages
removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rseq_slice_yield
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_sigtimedwait_time64 rt_tgsigqueueinfo
sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat
shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair
splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo
tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill
truncate truncate64
ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes
vfork vmsplice wait4 waitid waitpid write writev`

// capabilityCalls are allowed to a container that has the capability: the kernel
// asks for it again, so the filter would only forbid what was granted.
var capabilityCalls = []struct{ capability, calls string }{
	{"CAP_DAC_READ_SEARCH", "open_by_handle_at"},
	{"CAP_SYS_ADMIN", "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr" +
		" move_mount open_tree open_tree_attr perf_event_open pivot_root quotactl quotactl_fd setdomainname sethostname setns syslog" +
		" umount umount2 unshare"},
	{"CAP_SYS_BOOT", "reboot"},
	{"CAP_SYS_CHROOT", "chroot"},
	{"CAP_SYS_MODULE", "delete_module finit_module init_module"},
	{"CAP_SYS_PACCT", "acct"},
	{"CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"},
	{"CAP_SYS_RAWIO", "ioperm iopl"},
	{"CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"},
	{"CAP_SYS_TTY_CONFIG", "vhangup"},
	{"CAP_SYS_NICE", "get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node"},
	{"CAP_SYSLOG", "syslog"},
	{"CAP_BPF", "bpf"},
	{"CAP_PERFMON", "perf_event_open"},
}

// archCalls exist on some architectures only.
var archCalls = []struct{ arches, calls string }{
	{"amd64 x32", "arch_prctl"},
	{"amd64 x32 x86", "modify_ldt"},
	{"arm arm64", "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"},
	{"ppc64le", "sync_file_range2 swapcontext"},
	{"s390x", "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"},
	{"riscv64", "riscv_flush_icache"},
}

// personalities are those that only change this program's own view: Linux, Linux on
// 32 bits, each with UNAME26, and the question which one holds.
var personalities = []uint64{0x0, 0x8, 0x20000, 0x20008, 0xffffffff}

func defaultProfile() *Profile {
	eperm, enosys := uint(errnoEPERM), uint(errnoENOSYS)
	p := &Profile{
		DefaultAction:   specs.ActErrno,
		DefaultErrnoRet: &eperm,
		ArchMap: []ProfileArch{
			{specs.ArchX86_64, []specs.Arch{specs.ArchX86, specs.ArchX32}},
			{specs.ArchAARCH64, []specs.Arch{specs.ArchARM}},
			{specs.ArchPPC64LE, nil}, {specs.ArchS390X, []specs.Arch{specs.ArchS390}},
			{specs.ArchRISCV64, nil}, {specs.ArchLOONGARCH64, nil},
		},
	}
	allow := func(calls string, r ProfileRule) {
		r.Names, r.Action = strings.Fields(calls), specs.ActAllow
		p.Syscalls = append(p.Syscalls, r)
	}
	allow(safeCalls, ProfileRule{})
	// The kernel before 4.8 lets a tracer change a call after the filter saw it.
	allow("process_vm_readv process_vm_writev ptrace", ProfileRule{Includes: ProfileCondition{MinKernel: "4.8"}})
	allow("socket", ProfileRule{Args: []specs.LinuxSeccompArg{{Index: 0, Value: familyVSOCK, Op: specs.OpNotEqual}}})
	for _, value := range personalities {
		allow("personality", ProfileRule{Args: []specs.LinuxSeccompArg{{Index: 0, Value: value, Op: specs.OpEqualTo}}})
	}
	for _, c := range archCalls {
		allow(c.calls, ProfileRule{Includes: ProfileCondition{Arches: strings.Fields(c.arches)}})
	}
	for _, c := range capabilityCalls {
		allow(c.calls, ProfileRule{Includes: ProfileCondition{Caps: []string{c.capability}}})
	}
	// Without CAP_SYS_ADMIN no new namespaces. clone has its flags in a register, the
	// second one on s390. Those of clone3 are in memory, which a filter cannot read:
	// ENOSYS makes the C library fall back to clone.
	admin := ProfileCondition{Caps: []string{"CAP_SYS_ADMIN"}}
	notAdminNorS390 := ProfileCondition{Caps: admin.Caps, Arches: []string{"s390", "s390x"}}
	noNamespaces := func(index uint) []specs.LinuxSeccompArg {
		return []specs.LinuxSeccompArg{{Index: index, Value: cloneNewMask, ValueTwo: 0, Op: specs.OpMaskedEqual}}
	}
	allow("clone", ProfileRule{Args: noNamespaces(0), Excludes: notAdminNorS390})
	allow("clone", ProfileRule{Args: noNamespaces(1), Includes: ProfileCondition{Arches: []string{"s390", "s390x"}}, Excludes: admin})
	p.Syscalls = append(p.Syscalls, ProfileRule{
		Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &enosys, Excludes: admin,
	})
	return p
}
