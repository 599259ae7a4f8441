/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/* Which file does a name mean that unlink, rename or link is about to take? Found among the cached children of its directory. */
#ifndef FLOWCEPT_NAME_H
#define FLOWCEPT_NAME_H
#include "file.h"

#define COMPONENTS 32
#define CHILDREN 512
#define NAME_WORDS 32

struct lookup {
	char path[TEXT + 256];      /* as the program gave it */
	__u64 wanted[NAME_WORDS + 1]; /* the component looked for, padded with 0 */
	__u64 found[NAME_WORDS + 1];
	/* Where the walk is. It lies in the map and not on the stack: read back from there, pointers are plain numbers to the
	 * verifier, which else follows every combination of their types. */
	__u64 dentry, directory, mount, root;
	__u64 child, parent; /* of the scan */
	__u32 at, length, state, reserved;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lookup);
} lookups SEC(".maps");

struct resolve {
	struct lookup *l; /* bpf_loop wants its context on the stack */
};
enum { WALKING, FOUND, MISSING, LOST };

INLINE __u64 mask(__u64 word, __u32 bytes)
{
	return bytes >= 8 ? word : word & ((1ULL << ((bytes * 8) & 63)) - 1);
}

static long copy_step(__u32 i, struct resolve *r)
{
	struct lookup *l = r->l;
	__u32 at = l->at, length = l->length;
	if (at >= TEXT || length >= 255)
		return 1;
	char c = l->path[at];
	if (!c || c == '/')
		return 1;
	((char *)l->wanted)[length] = c;
	l->at = at + 1;
	l->length = length + 1;
	return 0;
}

static long scan_step(__u32 i, struct resolve *r)
{
	struct lookup *l = r->l;
	if (!l->child)
		return 1;
	__u64 dentry = l->child - bpf_core_field_offset(struct dentry, d_sib);
	__u32 length = GET(dentry, dentry, d_name.len);
	if (length == l->length && (__u64)GET(dentry, dentry, d_parent) == l->parent) {
		const void *name = GET(dentry, dentry, d_name.name);
		struct dentry *type = 0;
		__u64 word = 0;
		/* names are allocated in words; a short one lies in the dentry itself, which is read without a call */
		if (bpf_core_field_exists(type->d_shortname) && length < bpf_core_field_size(type->d_shortname))
			word = GET(dentry, dentry, d_shortname.words[0]);
		else
			bpf_probe_read_kernel(&word, 8, name);
		if (mask(word, length) == l->wanted[0]) {
			__u64 differs = 0;
			if (length > 8) { /* without a branch a word: the verifier would follow each */
				__builtin_memset(l->found, 0, sizeof(l->found));
				bpf_probe_read_kernel(l->found, length & 255, name);
				for (__u32 w = 0; w < NAME_WORDS; w++)
					differs |= l->found[w] ^ l->wanted[w];
			}
			if (!differs) {
				l->dentry = dentry;
				l->state = FOUND;
				return 1;
			}
		}
	}
	l->child = (__u64)GET(dentry, dentry, d_sib.next);
	return 0;
}

static long component_step(__u32 i, struct resolve *r)
{
	struct lookup *l = r->l;
	__u32 at = l->at;
	if (at >= TEXT)
		return 1;
	char c = l->path[at];
	if (c == '/') {
		l->at = at + 1;
		return 0;
	}
	if (!c)
		return 1;
	if (l->state == MISSING) { /* a component in the middle is not cached */
		l->state = LOST;
		return 1;
	}
	__builtin_memset(l->wanted, 0, sizeof(l->wanted));
	l->length = 0;
	bpf_loop(256, copy_step, r, 0);
	__u64 parent = l->dentry;
	if (l->length == 1 && l->wanted[0] == '.')
		return 0;
	if (l->length == 2 && l->wanted[0] == ('.' | '.' << 8)) {
		if (parent == l->root || parent == (__u64)GET(mount, l->mount, mnt.mnt_root)) {
			l->state = LOST;
			return 1;
		}
		l->dentry = (__u64)GET(dentry, parent, d_parent);
		l->state = FOUND;
		return 0;
	}
	struct dentry *type = 0;
	if (!bpf_core_field_exists(type->d_children)) {
		l->directory = parent;
		l->state = MISSING;
		return 0;
	}
	l->parent = parent;
	l->child = (__u64)GET(dentry, parent, d_children.first);
	l->state = MISSING;
	bpf_loop(CHILDREN, scan_step, r, 0);
	l->directory = parent;
	if (l->state == FOUND) {
		if (!GET(dentry, l->dentry, d_inode)) {
			l->state = MISSING; /* known not to exist */
		} else if (GET(dentry, l->dentry, d_flags) & bpf_core_enum_value(enum dentry_flags, DCACHE_MOUNTED)) {
			l->state = LOST; /* something is mounted there: the walk would leave this mount */
			return 1;
		}
	}
	return 0;
}

/* The base of a name: the root, the working directory or the directory of a descriptor. */
INLINE struct place base_of(struct task_struct *task, int fd, int absolute)
{
	struct place place = {};
	__u64 fs = (__u64)GET(task_struct, task, fs);
	if (absolute && fs) {
		place.dentry = (__u64)GET(fs_struct, fs, root.dentry);
		place.mount = (__u64)GET(fs_struct, fs, root.mnt);
	} else if (fd == AT_FDCWD && fs) {
		place.dentry = (__u64)GET(fs_struct, fs, pwd.dentry);
		place.mount = (__u64)GET(fs_struct, fs, pwd.mnt);
	} else {
		__u64 file = file_at(task, fd);
		if (file)
			place = place_of(file);
	}
	return place;
}

/* Fills `met` (mode 0 where there is no such file or it was not found) and the directory that the name is in. */
APART int resolve_name(struct met *met, struct File *directory, int fd, __u64 name)
{
	if (!met || !directory)
		return 0;
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 zero = 0;
	struct lookup *l = bpf_map_lookup_elem(&lookups, &zero);
	__builtin_memset(met, 0, sizeof(*met));
	__builtin_memset(directory, 0, sizeof(*directory));
	if (!l)
		return 0;
	long length = bpf_probe_read_user_str(l->path, TEXT, (void *)name);
	if (length < 1)
		return 0;
	struct resolve r = {.l = l};
	struct place base = base_of(task, fd, l->path[0] == '/');
	if (!base.dentry)
		return 0;
	l->state = FOUND;
	l->at = 0;
	l->directory = 0;
	l->dentry = base.dentry;
	l->mount = base.mount - bpf_core_field_offset(struct mount, mnt);
	__u64 fs = (__u64)GET(task_struct, task, fs);
	l->root = fs ? (__u64)GET(fs_struct, fs, root.dentry) : 0;
	bpf_loop(2 * COMPONENTS, component_step, &r, 0);
	__u64 inode = l->directory && l->state != LOST ? (__u64)GET(dentry, l->directory, d_inode) : 0;
	if (inode)
		identify_inode(inode, directory);
	if (l->state == FOUND) {
		met->dentry = l->dentry;
		met->mount = base.mount;
		met->inode = (__u64)GET(dentry, l->dentry, d_inode);
		if (met->inode) {
			identify_inode(met->inode, &met->id);
			met->mode = GET(inode, met->inode, i_mode);
		}
	} else {
		count(COUNT_NAMES_UNRESOLVED);
	}
	return 0;
}

struct names {
	int fd, fd_new;
	__u64 name, name_new;
	__u32 operation;
};

INLINE void enter_names(struct task *t, struct names *n)
{
	t->entered = now();
	resolve_name(&t->in, &t->directory, n->fd, n->name);
	if (t->in.mode)
		read_state(t->in.inode, &t->state);
	else
		__builtin_memset(&t->state, 0, sizeof(t->state));
	if (n->name_new)
		resolve_name(&t->out, &t->directory_new, n->fd_new, n->name_new);
}

/* Appends the path of the base and the name as given; returns where they end. */
APART __u32 base_and_name(struct Named *r, struct names *n, __u32 at, int second)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *s = scratch_of_cpu();
	if (!s || !r || !n)
		return at;
	__u64 name = second ? n->name_new : n->name;
	int fd = second ? n->fd_new : n->fd;
	struct place base_place = {};
	char c = 0;
	bpf_probe_read_user(&c, 1, (void *)name);
	if (c != '/')
		base_place = base_of(task, fd, 0);
	__u32 end = at;
	if (base_place.dentry)
		end = walk_path(&base_place, at, &r->flags);
	__u16 base = end - at;
	if (end >= ROOM - TEXT)
		return at;
	long length = bpf_probe_read_user_str(s->bytes + end, TEXT, (void *)name);
	__u16 given = length > 0 ? length : 0;
	if (second) {
		r->base_new_text = base;
		r->name_new_text = given;
	} else {
		r->base_text = base;
		r->name_text = given;
	}
	return end + given;
}

APART int exit_names(struct task *t, struct names *n)
{
	struct scratch *s = scratch_of_cpu();
	if (!s || !t || !n)
		return 0;
	struct Named *r = (void *)s->bytes;
	__builtin_memset(r, 0, sizeof(*r));
	begin(&r->header, KIND_NAMED, t->image, t->entered);
	r->returned = now();
	r->operation = n->operation;
	__u32 at = sizeof(*r);
	if (n->operation != FILE_SYMLINK && n->operation != FILE_MKDIR) {
		r->directory = t->directory;
		r->directory_new = t->directory_new;
		if (t->in.mode) {
			r->file = t->in.id;
			r->state = t->state;
		}
		if (n->name_new && t->out.mode)
			r->replaced = t->out.id;
		/* the dentry of what was renamed is still there, under its new name */
		if (t->in.mode && (n->operation == FILE_RENAME || n->operation == FILE_EXCHANGE)) {
			read_volume(t->in.inode, &r->volume);
			struct place place = {t->in.dentry, t->in.mount};
			at = walk_path(&place, at, &r->flags);
			r->walked_text = at - sizeof(*r);
		}
	}
	at = base_and_name(r, n, at, 0);
	if (n->name_new)
		at = base_and_name(r, n, at, 1);
	t->in.mode = t->out.mode = 0;
	if (at <= ROOM)
		send(r, at);
	return 0;
}

#endif
