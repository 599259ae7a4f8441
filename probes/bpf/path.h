/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/* How to read a path: from the file upward over dentries and mounts, leaf first, each component ended by NUL. */
#ifndef FLOWCEPT_PATH_H
#define FLOWCEPT_PATH_H
#include "emit.h"

#define LEVELS 96

struct walk {
	__u64 dentry, mount;
	char *text;
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
	if (at + length + 1 > w->end || at >= TEXTS)
		return 1;
	bpf_probe_read_kernel(w->text + at, length, name);
	at += length;
	if (at >= TEXTS)
		return 1;
	w->text[at] = 0;
	w->at = at + 1;
	w->dentry = parent;
	return 0;
}

/* Writes the path of (dentry, mount) at `at`, at most TEXT bytes; returns where it ends. */
OUTLINE __u32 walk_path(__u64 dentry, __u64 vfsmount, char *text, __u32 at, __u32 *flags)
{
	struct walk w = {.dentry = dentry,
			 .mount = vfsmount - bpf_core_field_offset(struct mount, mnt),
			 .text = text,
			 .at = at,
			 .end = at + TEXT};
	bpf_loop(LEVELS, walk_step, &w, 0);
	if (!w.done) {
		*flags |= FILE_PATH_CUT;
		count(COUNT_PATHS_CUT);
	}
	return w.at;
}

#endif
