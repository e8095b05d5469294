/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * The numbers of the few syscalls that the programs know by name.
 */
#pragma once

#if defined(__TARGET_ARCH_x86)
/* arch/x86/entry/syscalls/syscall_64.tbl */
#define NR_read 0
#define NR_mmap 9
#define NR_mprotect 10
#define NR_munmap 11
#define NR_brk 12
#define NR_pread64 17
#define NR_mremap 25
#define NR_madvise 28
#define NR_shmget 29
#define NR_shmat 30
#define NR_clone 56
#define NR_fork 57
#define NR_vfork 58
#define NR_accept 43
#define NR_execve 59
#define NR_exit 60
#define NR_listxattr 194
#define NR_llistxattr 195
#define NR_flistxattr 196
#define NR_exit_group 231
#define NR_epoll_ctl 233
#define NR_accept4 288
#define NR_execveat 322
#define NR_clone3 435
#elif defined(__TARGET_ARCH_arm64)
/* include/uapi/asm-generic/unistd.h */
#define NR_read 63
#define NR_mmap 222
#define NR_mprotect 226
#define NR_munmap 215
#define NR_brk 214
#define NR_epoll_ctl 21
#define NR_pread64 67
#define NR_mremap 216
#define NR_madvise 233
#define NR_shmget 194
#define NR_shmat 196
#define NR_clone 220
#define NR_accept 202
#define NR_accept4 242
#define NR_execve 221
#define NR_exit 93
#define NR_listxattr 11
#define NR_llistxattr 12
#define NR_flistxattr 13
#define NR_exit_group 94
#define NR_execveat 281
#define NR_clone3 435
#else
#error "syscall numbers of this machine are missing"
#endif
