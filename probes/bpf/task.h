/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/* Is this task part of a traced workflow, and what is it in the middle of? */
#ifndef FLOWCEPT_TASK_H
#define FLOWCEPT_TASK_H
#include "path.h"

/* A file as met at a descriptor or by its name; pointers are compared, never followed beyond the call. */
struct met {
	__u64 file, inode;
	__u64 dentry, mount; /* set instead of `file` where it was met by name */
	struct File id;
	__u32 mode;
	__u32 shared; /* the table had more than one user */
};

/* The file last used in one direction: spares the map of sums for every further call. */
struct slot {
	__u64 file, inode;
	struct File id;
	__u64 bytes, calls, first, last;
	__u64 ticks; /* jiffies of the last call; 0 where `last` is exact */
	__u64 open_file;
	__u32 flags;
	__u32 reserved;
};
#define SLOTS 3 /* FILE_READ, FILE_WRITE, FILE_MAP, each minus one */

struct task {
	__u64 image; /* first: user space seeds a task with it */
	__u64 entered;
	struct met in, out;
	struct State state;             /* of the file whose name is about to change */
	struct File directory, directory_new;
	__u64 unseen; /* mechanisms told already, a bit each */
	struct slot slots[SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task);
} tasks SEC(".maps");

__u64 last_image = 1;

INLINE __u64 next_image(void)
{
	return __sync_add_and_fetch(&last_image, 1);
}

INLINE struct task *traced(struct task_struct *task)
{
	return bpf_task_storage_get(&tasks, task, 0, 0);
}

/* SipHash-2-4 of eight bytes: only a digest of AT_RANDOM leaves the process, the bytes themselves seed glibc's stack guard. */
#define ROTATE(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIPROUND                                                                                                      \
	do {                                                                                                          \
		v0 += v1; v1 = ROTATE(v1, 13); v1 ^= v0; v0 = ROTATE(v0, 32);                                         \
		v2 += v3; v3 = ROTATE(v3, 16); v3 ^= v2;                                                              \
		v0 += v3; v3 = ROTATE(v3, 21); v3 ^= v0;                                                              \
		v2 += v1; v1 = ROTATE(v1, 17); v1 ^= v2; v2 = ROTATE(v2, 32);                                         \
	} while (0)
INLINE __u64 siphash(__u64 m)
{
	/* The key is public: "flowcept" twice, so that kernel and library digest alike. */
	const __u64 k0 = 0x74706563776f6c66ULL, k1 = k0;
	__u64 v0 = k0 ^ 0x736f6d6570736575ULL, v1 = k1 ^ 0x646f72616e646f6dULL;
	__u64 v2 = k0 ^ 0x6c7967656e657261ULL, v3 = k1 ^ 0x7465646279746573ULL;
	__u64 b = 8ULL << 56;
	v3 ^= m; SIPROUND; SIPROUND; v0 ^= m;
	v3 ^= b; SIPROUND; SIPROUND; v0 ^= b;
	v2 ^= 0xff; SIPROUND; SIPROUND; SIPROUND; SIPROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

/* getauxval(3) of another; 0 where there is no such entry. */
INLINE __u64 auxiliary(__u64 mm, __u64 wanted)
{
	for (int i = 0; i < 46; i += 2) {
		__u64 entry = GET(mm_struct, mm, saved_auxv[i]);
		if (entry == wanted)
			return GET(mm_struct, mm, saved_auxv[i + 1]);
		if (!entry)
			break;
	}
	return 0;
}

INLINE __u64 image_digest(__u64 mm)
{
	__u64 address = auxiliary(mm, AT_RANDOM_ENTRY), bytes = 0;
	if (!address || bpf_probe_read_user(&bytes, sizeof(bytes), (void *)address))
		return 0;
	return siphash(bytes);
}

struct pid_names {
	__u32 namespace_pid, pid_namespace;
};
/* The thread-group id in the innermost pid namespace. */
INLINE struct pid_names pid_names(struct task_struct *leader)
{
	struct pid_names names = {};
	struct pid *pid = BPF_CORE_READ(leader, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);
	struct upid upid = {};
	/* numbers[] is a flexible array: its element is reached by arithmetic */
	bpf_probe_read_kernel(&upid.nr, sizeof(upid.nr),
			      (char *)pid + bpf_core_field_offset(struct pid, numbers) +
				      level * bpf_core_type_size(struct upid) + bpf_core_field_offset(struct upid, nr));
	bpf_probe_read_kernel(&upid.ns, sizeof(upid.ns),
			      (char *)pid + bpf_core_field_offset(struct pid, numbers) +
				      level * bpf_core_type_size(struct upid) + bpf_core_field_offset(struct upid, ns));
	names.namespace_pid = upid.nr;
	names.pid_namespace = BPF_CORE_READ(upid.ns, ns.inum);
	return names;
}

#endif
