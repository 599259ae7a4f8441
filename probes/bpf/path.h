/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/* How to read a path: from the file upward over dentries and mounts, leaf first, each component ended by NUL. */
#ifndef FLOWCEPT_PATH_H
#define FLOWCEPT_PATH_H
#include "emit.h"

#define LEVELS 96

/* A dentry and a vfsmount, as numbers: the verifier lets no pointers into a function that it looks at by itself. */
struct place {
	__u64 dentry, mount;
};

struct walk {
	__u64 dentry, mount;
	struct scratch *scratch;
	__u32 at, end;
	__u32 done;
};

static long walk_step(__u32 i, struct walk *w)
{
	__u64 root = (__u64)GET(mount, w->mount, mnt.mnt_root);
	if (w->dentry == root) {
		__u64 parent = (__u64)GET(mount, w->mount, mnt_parent);
		if (parent == w->mount) {
			w->done = 1;
			return 1;
		}
		w->dentry = (__u64)GET(mount, w->mount, mnt_mountpoint);
		w->mount = parent;
		return 0;
	}
	__u64 parent = (__u64)GET(dentry, w->dentry, d_parent);
	if (parent == w->dentry) { /* detached: a pipe, a memfd, a lazily unmounted tree */
		w->done = 1;
		return 1;
	}
	__u32 length = GET(dentry, w->dentry, d_name.len) & 255;
	const void *name = GET(dentry, w->dentry, d_name.name);
	__u32 at = w->at;
	if (at + length + 1 > w->end || at >= ROOM)
		return 1;
	bpf_probe_read_kernel(w->scratch->bytes + at, length, name);
	at += length;
	if (at >= ROOM)
		return 1;
	w->scratch->bytes[at] = 0;
	w->at = at + 1;
	w->dentry = parent;
	return 0;
}

/* Writes the path of a place into the scratch at `at`, at most TEXT bytes; returns where it ends. */
APART __u32 walk_path(struct place *place, __u32 at, __u32 *flags)
{
	struct scratch *s = scratch_of_cpu();
	if (!s || !place || !flags)
		return at;
	struct walk w = {.dentry = place->dentry,
			 .mount = place->mount - bpf_core_field_offset(struct mount, mnt),
			 .scratch = s,
			 .at = at,
			 .end = at + TEXT < ROOM ? at + TEXT : ROOM};
	bpf_loop(LEVELS, walk_step, &w, 0);
	if (!w.done) {
		*flags |= FILE_PATH_CUT;
		count(COUNT_PATHS_CUT);
	}
	return w.at;
}

#endif
