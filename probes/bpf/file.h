/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/* Files and pipes: which one a descriptor means, its first touch, its sums. */
#ifndef FLOWCEPT_FILE_H
#define FLOWCEPT_FILE_H
#include "task.h"

struct sum_key {
	__u64 image;
	struct File file;
	__u32 access, reserved;
};
struct sum {
	__u64 bytes, calls, first, last, open_file;
};
/* Only what does not fit into the slots comes here. Not LRU: what that drops, nobody can count (measured). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct sum_key);
	__type(value, struct sum);
} sums SEC(".maps");

INLINE __u64 file_at(struct task_struct *task, __u32 fd)
{
	__u64 files = (__u64)GET(task_struct, task, files);
	if (!files)
		return 0;
	__u64 table = (__u64)GET(files_struct, files, fdt);
	if (!table || fd >= GET(fdtable, table, max_fds))
		return 0;
	__u64 file = 0;
	bpf_probe_read_kernel(&file, sizeof(file), (void *)((__u64)GET(fdtable, table, fd) + 8ULL * fd));
	return file;
}

INLINE int table_is_shared(struct task_struct *task)
{
	__u64 files = (__u64)GET(task_struct, task, files);
	return !files || GET(files_struct, files, count.counter) != 1;
}

INLINE void identify_inode(__u64 inode, struct File *id)
{
	id->inode = GET(inode, inode, i_ino);
	id->generation = GET(inode, inode, i_generation);
	__u64 volume = (__u64)GET(inode, inode, i_sb);
	id->device = GET(super_block, volume, s_dev);
}

/* Fills `met`; the mode, or 0 where there is no such descriptor. */
INLINE __u32 meet(__u64 file, struct met *met)
{
	met->file = file;
	met->dentry = met->mount = 0;
	met->mode = 0;
	if (!file)
		return 0;
	met->inode = (__u64)GET(file, file, f_inode);
	if (!met->inode)
		return 0;
	identify_inode(met->inode, &met->id);
	met->mode = GET(inode, met->inode, i_mode);
	return met->mode;
}

INLINE void read_state(__u64 inode, struct State *state)
{
	struct inode *i = (void *)inode;
	state->size = GET(inode, inode, i_size);
	state->mode = GET(inode, inode, i_mode);
	state->links = GET(inode, inode, i_nlink);
	if (bpf_core_field_exists(i->i_mtime_sec)) {
		state->mtime = GET(inode, inode, i_mtime_sec) * 1000000000ULL + GET(inode, inode, i_mtime_nsec);
		state->ctime = GET(inode, inode, i_ctime_sec) * 1000000000ULL + GET(inode, inode, i_ctime_nsec);
		return;
	}
	struct timespec64 mtime = {}, ctime = {};
	struct inode___middle *middle = (void *)inode;
	struct inode___old *old = (void *)inode;
	if (bpf_core_field_exists(middle->__i_mtime))
		bpf_core_read(&mtime, sizeof(mtime), &middle->__i_mtime);
	else if (bpf_core_field_exists(old->i_mtime))
		bpf_core_read(&mtime, sizeof(mtime), &old->i_mtime);
	if (bpf_core_field_exists(middle->__i_ctime))
		bpf_core_read(&ctime, sizeof(ctime), &middle->__i_ctime);
	else if (bpf_core_field_exists(old->i_ctime))
		bpf_core_read(&ctime, sizeof(ctime), &old->i_ctime);
	state->mtime = mtime.tv_sec * 1000000000ULL + mtime.tv_nsec;
	state->ctime = ctime.tv_sec * 1000000000ULL + ctime.tv_nsec;
}

INLINE void read_volume(__u64 inode, struct Volume *volume)
{
	__u64 block = (__u64)GET(inode, inode, i_sb);
	volume->magic = GET(super_block, block, s_magic);
	volume->reserved = 0;
	bpf_core_read(volume->uuid, sizeof(volume->uuid), &((struct super_block *)block)->s_uuid.b);
}

INLINE struct place place_of(__u64 file)
{
	return (struct place){(__u64)GET(file, file, f_path.dentry), (__u64)GET(file, file, f_path.mnt)};
}

/* One reference left: this close is the last. */
INLINE int last_reference(__u64 file)
{
	struct file *f = (void *)file;
	if (bpf_core_field_exists(f->f_ref))
		return GET(file, file, f_ref.refcnt.counter) == 0;
	long references = 0;
	bpf_core_read(&references, sizeof(references), &((struct file___old *)file)->f_count.counter);
	return references == 1;
}

/* What was done until now was done before what comes: the last use needs no stamp of its own then. */
INLINE void slots_bound(struct task *t, __u64 at)
{
	for (int i = 0; i < 2; i++)
		if (t->slots[i].ticks) {
			t->slots[i].ticks = 0;
			t->slots[i].last = at;
		}
}

/* Tells a first touch. Without a file or a dentry there is neither path nor state. */
APART int touch(struct task *t, struct met *met, __u32 access, __u32 flags, __u64 at)
{
	struct scratch *s = scratch_of_cpu();
	if (!s || !t || !met)
		return 0;
	struct Touched *r = (void *)s->bytes;
	__builtin_memset(r, 0, sizeof(*r));
	begin(&r->header, KIND_TOUCHED, t->image, at);
	r->file = met->id;
	r->access = access;
	r->flags = flags;
	r->open_file = met->file;
	r->state.mode = met->mode;
	__u32 end = sizeof(*r);
	struct place place = {met->dentry, met->mount};
	if (met->file)
		place = place_of(met->file);
	if (place.dentry) {
		__u64 dentry = place.dentry;
		read_state(met->inode, &r->state);
		read_volume(met->inode, &r->volume);
		if (!GET(dentry, dentry, d_hash.pprev))
			r->flags |= FILE_NAMELESS;
		__u64 parent = (__u64)GET(dentry, dentry, d_parent);
		__u64 directory = parent ? (__u64)GET(dentry, parent, d_inode) : 0;
		if (directory && parent != dentry)
			identify_inode(directory, &r->directory);
		end = walk_path(&place, end, &r->flags);
	}
	if (end <= ROOM)
		send(r, end);
	slots_bound(t, at);
	return 0;
}

INLINE __u64 slot_last(struct slot *slot, __u64 at)
{
	if (!slot->ticks)
		return slot->last;
	__u64 idle = bpf_jiffies64() - slot->ticks;
	if (idle <= 1)
		return at;
	__u64 last = at - (idle - 1) * clock.tick;
	return last > slot->first ? last : slot->first;
}

INLINE void send_sum(__u64 image, struct File *file, __u32 access, struct sum *sum, __u64 inode, __u32 flags, __u64 at)
{
	struct Summed *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);
	if (!r) {
		count(COUNT_DROPPED + KIND_SUMMED);
		return;
	}
	begin(&r->header, KIND_SUMMED, image, at);
	r->header.length = sizeof(*r);
	r->file = *file;
	r->bytes = sum->bytes;
	r->calls = sum->calls;
	r->first = sum->first;
	r->last = sum->last;
	r->open_file = sum->open_file;
	r->access = access;
	r->flags = flags;
	__builtin_memset(&r->state, 0, sizeof(r->state));
	if (inode)
		read_state(inode, &r->state);
	bpf_ringbuf_submit(r, wake_flag());
	count(COUNT_WRITTEN + KIND_SUMMED);
}

INLINE void slot_sum(struct slot *slot, struct sum *sum, __u64 at)
{
	sum->bytes = slot->bytes;
	sum->calls = slot->calls;
	sum->first = slot->first;
	sum->last = slot_last(slot, at);
	sum->open_file = slot->open_file;
}

INLINE void slot_clear(struct slot *slot)
{
	slot->file = 0;
	slot->bytes = 0;
	slot->calls = 0;
	slot->ticks = 0;
	slot->flags = 0;
}

/* Another file takes the slot: what it holds goes to the map, or where that is full is told at once. */
APART int slot_evict(struct task *t, __u32 access)
{
	__u32 i = access - 1;
	if (!t || i >= 2)
		return 0;
	struct slot *slot = &t->slots[i];
	if (!slot->file || !slot->calls) {
		slot_clear(slot);
		return 0;
	}
	__u64 at = now();
	struct sum_key key = {.image = t->image, .file = slot->id, .access = access};
	struct sum fresh;
	slot_sum(slot, &fresh, at);
	slot_clear(slot);
	struct sum *sum = bpf_map_lookup_elem(&sums, &key);
	if (!sum) {
		long failed = bpf_map_update_elem(&sums, &key, &fresh, BPF_NOEXIST);
		if (!failed)
			return 0;
		sum = bpf_map_lookup_elem(&sums, &key); /* another thread was first */
		if (!sum) {
			count(COUNT_SUMS_FULL);
			send_sum(t->image, &key.file, access, &fresh, 0, FILE_NOT_SUMMED, at);
			return 0;
		}
	}
	__sync_fetch_and_add(&sum->bytes, fresh.bytes);
	__sync_fetch_and_add(&sum->calls, fresh.calls);
	if (fresh.last > sum->last)
		sum->last = fresh.last;
	if (sum->open_file != fresh.open_file)
		sum->open_file = 0;
	return 0;
}

/* The image or the thread ends: what its slots hold is told; the agent fetches the rest from the map. */
INLINE void slots_drain(struct task *t, __u64 at)
{
	for (__u32 i = 0; i < 2; i++) {
		struct slot *slot = &t->slots[i];
		if (slot->file && slot->calls) {
			struct sum sum;
			slot_sum(slot, &sum, at);
			send_sum(t->image, &slot->id, i + 1, &sum, 0, 0, at);
		}
	}
	for (__u32 i = 0; i < SLOTS; i++)
		slot_clear(&t->slots[i]);
}

/* A mechanism that these probes do not follow: told once a thread, the agent counts images. */
APART int unseen(struct task *t, __u32 mechanism, __u32 call)
{
	if (!t || t->unseen & (1ULL << (mechanism & 63)))
		return 0;
	t->unseen |= 1ULL << (mechanism & 63);
	struct Unseen *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);
	if (!r) {
		count(COUNT_DROPPED + KIND_UNSEEN);
		return 0;
	}
	begin(&r->header, KIND_UNSEEN, t->image, now());
	r->header.length = sizeof(*r);
	r->mechanism = mechanism;
	r->call = call;
	bpf_ringbuf_submit(r, wake_flag());
	count(COUNT_WRITTEN + KIND_UNSEEN);
	return 0;
}

/* One call in one direction; `first` is when a write began. */
APART int account(struct task *t, struct met *met, __u32 access, __u64 bytes, __u64 first)
{
	__u32 i = access - 1;
	if (!t || !met || i >= 2)
		return 0;
	__u32 type = met->mode & S_IFMT;
	if (type == S_IFSOCK)
		return bytes ? unseen(t, GAP_SOCKET, 0) : 0;
	if (type != S_IFREG && type != S_IFIFO && type != S_IFCHR)
		return 0;
	struct slot *slot = &t->slots[i];
	struct sum_key key = {.image = t->image, .file = met->id, .access = access};
	__u64 at = access == FILE_READ ? now() : first;
	/* a slot that was only made by the open (created here) has no call yet and needs no second touch */
	int mine = slot->file && slot->file == met->file && slot->inode == met->inode;
	if (!mine) {
		slot_evict(t, access);
		if (!bpf_map_lookup_elem(&sums, &key))
			touch(t, met, access, met->file ? 0 : FILE_UNCERTAIN, at);
		slot->inode = met->inode;
		slot->id = met->id;
		slot->open_file = met->file;
		slot->flags = 0;
		slot->bytes = 0;
		slot->calls = 0;
		/* without a file pointer the slot can never be hit again; it is told like the others */
		slot->file = met->file ? met->file : ~0ULL;
	}
	if (!slot->calls)
		slot->first = at;
	slot->bytes += bytes;
	slot->calls++;
	slot->ticks = bpf_jiffies64();
	return 0;
}

/* The call that every program makes most: the same file again. */
INLINE int hot(struct task *t, __u32 access, __u64 file, __u64 bytes)
{
	struct slot *slot = &t->slots[access - 1];
	if (!file || slot->file != file || !slot->calls)
		return 0;
	if (slot->inode != (__u64)GET(file, file, f_inode))
		return 0;
	slot->bytes += bytes;
	slot->calls++;
	slot->ticks = bpf_jiffies64();
	return 1;
}

/* A descriptor is about to go: at the last close, tell what was done through it. */
INLINE void drain(struct task *t, __u64 file)
{
	struct met met;
	if (!meet(file, &met))
		return;
	__u32 type = met.mode & S_IFMT;
	if (type != S_IFREG && type != S_IFIFO)
		return;
	if (!last_reference(file))
		return;
	__u32 mode = GET(file, file, f_mode);
	__u64 at = now();
	for (__u32 i = 0; i < 2; i++) {
		if (!(mode & (i ? FMODE_WRITE : FMODE_READ)))
			continue;
		struct slot *slot = &t->slots[i];
		struct sum sum = {};
		int have = slot->file == file && slot->inode == met.inode;
		if (have) {
			slot_sum(slot, &sum, at);
			have = slot->calls != 0;
			slot_clear(slot);
		}
		struct sum_key key = {.image = t->image, .file = met.id, .access = i + 1};
		struct sum *rest = bpf_map_lookup_elem(&sums, &key);
		if (rest) {
			sum.bytes += rest->bytes;
			sum.calls += rest->calls;
			if (!have || rest->first < sum.first)
				sum.first = rest->first;
			if (rest->last > sum.last)
				sum.last = rest->last;
			if (!have)
				sum.open_file = rest->open_file;
			else if (sum.open_file != rest->open_file)
				sum.open_file = 0;
			have = 1;
			bpf_map_delete_elem(&sums, &key);
		}
		if (have || (i && type == S_IFREG)) {
			if (!have) { /* opened for writing and never written: the last close decides about a creation */
				sum.first = sum.last = at;
				sum.open_file = file;
			}
			send_sum(t->image, &met.id, i + 1, &sum, met.inode, FILE_LAST_CLOSE, at);
		}
	}
	if (t->slots[FILE_MAP - 1].file == file)
		slot_clear(&t->slots[FILE_MAP - 1]);
}

#endif
