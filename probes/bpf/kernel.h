/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/* The parts of kernel structs that the probes look at; offsets are relocated at load (CO-RE). */
#ifndef FLOWCEPT_KERNEL_H
#define FLOWCEPT_KERNEL_H

#include <linux/bpf.h>
#include "wire.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#define INLINE static __always_inline
#define OUTLINE static __attribute__((noinline))
/*
 * Verified once and by itself, whatever its callers know: keeps the time to load short (since 5.13). Its pointers may be
 * null to the verifier, and what it returns may be anything.
 */
#define APART __attribute__((noinline))
#define SEEN_BY_CORE __attribute__((preserve_access_index))

/* As <sys/stat.h>, <fcntl.h>, <sched.h> and <sys/mman.h> have them. */
#define S_IFMT 0170000
#define S_IFIFO 0010000
#define S_IFCHR 0020000
#define S_IFDIR 0040000
#define S_IFREG 0100000
#define S_IFSOCK 0140000
#define O_CREAT 00000100
#define O_TRUNC 00001000
#define AT_FDCWD (-100)
#define AT_REMOVEDIR 0x200
#define AT_EMPTY_PATH 0x1000
#define CLONE_THREAD 0x00010000
#define PROT_EXEC 4
#define MAP_SHARED_BIT 1
#define MAP_ANONYMOUS 0x20
#define RENAME_EXCHANGE 2
/* Stable since 2.6: include/linux/fs.h */
#define FMODE_READ 1
#define FMODE_WRITE 2
/* include/linux/fs.h, since 4.19 */
#define FMODE_CREATED (1 << 20)
#define FICLONE 0x40049409
#define FICLONERANGE 0x4020940d
#define FIDEDUPERANGE 0xc0189436
#define AT_BASE_ENTRY 7
#define AT_RANDOM_ENTRY 25
/* arch/x86/include/asm/thread_info.h: the call came through the 32-bit table. */
#define TS_COMPAT 2

struct list_head { struct list_head *next; } SEEN_BY_CORE;
struct hlist_node { struct hlist_node *next; } SEEN_BY_CORE;
struct hlist_head { struct hlist_node *first; } SEEN_BY_CORE;
typedef struct { int counter; } atomic_t;
typedef struct { long counter; } atomic64_t;
typedef struct { atomic64_t refcnt; } file_ref_t;
typedef struct { __u32 val; } kuid_t;

struct qstr { __u32 len; const unsigned char *name; } SEEN_BY_CORE;
union shortname_store { unsigned long words[5]; } SEEN_BY_CORE;
struct super_block { __u32 s_dev; unsigned long s_magic; struct { __u8 b[16]; } s_uuid; } SEEN_BY_CORE;
struct inode {
	__u16 i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
	long long i_size;
	__u32 i_generation;
	/* since 6.13; before, struct timespec64 (inode___old) */
	long long i_mtime_sec, i_ctime_sec;
	__u32 i_mtime_nsec, i_ctime_nsec;
} SEEN_BY_CORE;
struct timespec64 { long long tv_sec; long tv_nsec; } SEEN_BY_CORE;
/* until 6.5 i_ctime, 6.6 to 6.12 __i_ctime and __i_mtime */
struct inode___old { struct timespec64 i_mtime, i_ctime; } SEEN_BY_CORE;
struct inode___middle { struct timespec64 __i_mtime, __i_ctime; } SEEN_BY_CORE;
struct dentry {
	unsigned int d_flags;
	struct { struct { void *next; } d_dummy; void **pprev; } d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	union shortname_store d_shortname; /* since 6.14; before, names are read where d_name points */
	/* since 6.8; before, list heads of other names, which are not walked */
	struct hlist_node d_sib;
	struct hlist_head d_children;
} SEEN_BY_CORE;
enum dentry_flags { DCACHE_MOUNTED = 32768 };
struct vfsmount { struct dentry *mnt_root; } SEEN_BY_CORE;
struct mount { struct mount *mnt_parent; struct dentry *mnt_mountpoint; struct vfsmount mnt; } SEEN_BY_CORE;
struct path { struct vfsmount *mnt; struct dentry *dentry; } SEEN_BY_CORE;
struct file {
	unsigned int f_mode;
	struct inode *f_inode;
	struct path f_path;
	file_ref_t f_ref; /* since 6.13: 0 is one reference */
} SEEN_BY_CORE;
struct file___old { atomic64_t f_count; } SEEN_BY_CORE;
struct fdtable { unsigned int max_fds; struct file **fd; } SEEN_BY_CORE;
struct files_struct { atomic_t count; struct fdtable *fdt; } SEEN_BY_CORE;
struct fs_struct { struct path root, pwd; } SEEN_BY_CORE;
struct percpu_counter { long long count; } SEEN_BY_CORE;
struct mm_struct {
	unsigned long hiwater_rss, arg_start, arg_end, env_start, env_end;
	unsigned long saved_auxv[56];
	struct percpu_counter rss_stat[4]; /* since 6.2 */
	struct file *exe_file;
} SEEN_BY_CORE;
struct vm_area_struct { struct file *vm_file; } SEEN_BY_CORE;
struct cred { kuid_t uid, gid, euid, egid; } SEEN_BY_CORE;
struct ns_common { unsigned int inum; } SEEN_BY_CORE;
struct pid_namespace { struct ns_common ns; } SEEN_BY_CORE;
struct mnt_namespace { struct ns_common ns; } SEEN_BY_CORE;
struct nsproxy { struct mnt_namespace *mnt_ns; } SEEN_BY_CORE;
struct upid { int nr; struct pid_namespace *ns; } SEEN_BY_CORE;
struct pid { unsigned int level; struct upid numbers[1]; } SEEN_BY_CORE;
struct task_io_accounting { __u64 read_bytes, write_bytes; } SEEN_BY_CORE;
struct sched_entity { __u64 sum_exec_runtime; } SEEN_BY_CORE;
struct signal_struct {
	atomic_t live;
	int group_exit_code;
	__u64 utime, stime, sum_sched_runtime;
	unsigned long maxrss;
	struct task_io_accounting ioac;
	struct list_head thread_head;
} SEEN_BY_CORE;
struct thread_info { unsigned int status; } SEEN_BY_CORE;
struct task_struct {
	struct thread_info thread_info;
	struct mm_struct *mm;
	int exit_code;
	int pid, tgid;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct list_head thread_node;
	__u64 utime, stime, start_boottime;
	const struct cred *cred;
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct sched_entity se;
	struct task_io_accounting ioac;
} SEEN_BY_CORE;
struct linux_binprm { const char *filename, *interp; } SEEN_BY_CORE;
/* arch/x86/include/asm/ptrace.h */
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
} SEEN_BY_CORE;

/*
 * Loads through pointers that the verifier does not trust: with bpf_rdonly_cast (since 6.2) as cheap as any load, else by
 * bpf_probe_read_kernel.
 */
extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym __weak;
#define CAST(T, p) ((struct T *)bpf_rdonly_cast((const void *)(p), bpf_core_type_id_kernel(struct T)))
#define GET(T, p, field)                                                                                              \
	({                                                                                                            \
		typeof(((struct T *)0)->field) got_;                                                                  \
		if (bpf_ksym_exists(bpf_rdonly_cast))                                                                 \
			got_ = CAST(T, p)->field;                                                                     \
		else                                                                                                  \
			bpf_core_read(&got_, sizeof(got_), &((struct T *)(p))->field);                                \
		got_;                                                                                                 \
	})

#ifndef bpf_ksym_exists
#define bpf_ksym_exists(symbol) (!!(symbol))
#endif

#endif
