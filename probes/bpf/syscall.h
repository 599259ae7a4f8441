/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * The two dispatchers. Every process of the node passes here while they are attached: the number table comes first, then
 * the question whether the task is traced.
 */
#ifndef FLOWCEPT_SYSCALL_H
#define FLOWCEPT_SYSCALL_H
#include "name.h"

INLINE int is_compat(struct task_struct *task)
{
	return task->thread_info.status & TS_COMPAT;
}

/* Fills the names of a call; 0 for calls of other classes. */
INLINE int names_of(struct pt_regs *regs, __u8 class, long call, struct names *n)
{
	n->fd = n->fd_new = AT_FDCWD;
	n->name_new = 0;
	switch (class) {
	case CALL_NAMES:
		n->name = regs->di;
		n->name_new = regs->si;
		n->operation = call == 82 ? FILE_RENAME : FILE_LINK;
		return 1;
	case CALL_NAMES_AT:
		n->fd = regs->di;
		n->name = regs->si;
		n->fd_new = regs->dx;
		n->name_new = regs->r10;
		n->operation = call == 265 ? FILE_LINK
					   : call == 316 && (regs->r8 & RENAME_EXCHANGE) ? FILE_EXCHANGE : FILE_RENAME;
		return 1;
	case CALL_NAME:
		n->name = regs->di;
		n->operation = call == 87 ? FILE_UNLINK : call == 84 ? FILE_RMDIR : FILE_MKDIR;
		return 1;
	case CALL_NAME_AT:
		n->fd = regs->di;
		n->name = regs->si;
		n->operation = call == 258 ? FILE_MKDIR : (regs->dx & AT_REMOVEDIR) ? FILE_RMDIR : FILE_UNLINK;
		return 1;
	case CALL_SYMLINK:
		n->name = regs->di;
		n->name_new = regs->si;
		n->operation = FILE_SYMLINK;
		return 1;
	case CALL_SYMLINK_AT:
		n->name = regs->di;
		n->fd_new = regs->si;
		n->name_new = regs->dx;
		n->operation = FILE_SYMLINK;
		return 1;
	}
	return 0;
}

/* linkat(2) of a descriptor: its O_TMPFILE gets a name, by AT_EMPTY_PATH or by /proc/self/fd/N. */
INLINE __u64 linked_descriptor(struct task_struct *task, struct pt_regs *regs)
{
	char name[24] = {};
	long length = bpf_probe_read_user_str(name, sizeof(name), (void *)regs->si);
	if (length == 1 && (regs->r8 & AT_EMPTY_PATH))
		return file_at(task, regs->di);
	const char prefix[] = "/proc/self/fd/";
	for (int i = 0; i < 14; i++)
		if (name[i] != prefix[i])
			return 0;
	__u32 fd = 0;
	for (int i = 14; i < 20; i++) {
		if (name[i] < '0' || name[i] > '9')
			break;
		fd = fd * 10 + (name[i] - '0');
	}
	return file_at(task, fd);
}

/* The descriptor of the file that ioctl(2) clones. */
INLINE __u32 cloned(struct pt_regs *regs)
{
	__s64 fd = regs->dx;
	if ((__u32)regs->si == FICLONERANGE)
		bpf_probe_read_user(&fd, sizeof(fd), (void *)regs->dx);
	return fd;
}

OUTLINE int enter_names_call(struct task *t, struct pt_regs *regs, __u32 class, long call)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct names n = {};
	if (!names_of(regs, class, call, &n) || n.operation == FILE_SYMLINK || n.operation == FILE_MKDIR) {
		t->entered = now();
		return 0;
	}
	enter_names(t, &n);
	if (n.operation == FILE_LINK && class == CALL_NAMES_AT && !t->in.mode) {
		__u64 file = linked_descriptor(task, regs);
		if (file && meet(file, &t->in))
			read_state(t->in.inode, &t->state);
	}
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(call_entered, struct pt_regs *regs, long call)
{
	if ((__u64)call >= CALL_TABLE)
		return 0;
	__u8 class = settings.at_entry[call];
	struct task_struct *task = bpf_get_current_task_btf();
	int compat = is_compat(task); /* its numbers are those of another table */
	if (!class && !compat)
		return 0;
	struct task *t = traced(task);
	if (!t)
		return 0;
	if (compat)
		return unseen(t, GAP_COMPAT, call);
	switch (class) {
	case CALL_READ:
		/* A shared table can change while the call blocks: which file it is must be known now. */
		t->in.shared = 0;
		if (table_is_shared(task)) {
			meet(file_at(task, regs->di), &t->in);
			t->in.shared = 1;
		}
		return 0;
	case CALL_WRITE: {
		__u64 file = file_at(task, regs->di);
		struct slot *slot = &t->slots[FILE_WRITE - 1];
		t->in.shared = 0;
		if (table_is_shared(task)) {
			meet(file, &t->in);
			t->in.shared = 1;
		} else if (file && slot->file == file && slot->calls) {
			return 0; /* its first write is told already */
		}
		t->entered = now();
		return 0;
	}
	case CALL_CLOSE:
		drain(t, file_at(task, regs->di));
		return 0;
	case CALL_DUP2:
		if ((__u32)regs->di != (__u32)regs->si)
			drain(t, file_at(task, regs->si));
		return 0;
	case CALL_SENDFILE:
		t->entered = now();
		meet(file_at(task, regs->si), &t->in);
		meet(file_at(task, regs->di), &t->out);
		return 0;
	case CALL_COPY:
		t->entered = now();
		meet(file_at(task, regs->di), &t->in);
		meet(file_at(task, regs->dx), &t->out);
		return 0;
	case CALL_TEE:
		t->entered = now();
		meet(file_at(task, regs->di), &t->in);
		meet(file_at(task, regs->si), &t->out);
		return 0;
	case CALL_IOCTL: {
		__u32 request = regs->si;
		t->in.mode = 0;
		if (request != FICLONE && request != FICLONERANGE)
			return 0;
		t->entered = now();
		meet(file_at(task, cloned(regs)), &t->in);
		meet(file_at(task, regs->di), &t->out);
		return 0;
	}
	case CALL_CHANGE:
		t->entered = now();
		meet(file_at(task, regs->di), &t->out);
		return 0;
	case CALL_TRUNCATE:
		t->entered = now();
		resolve_name(&t->out, &t->directory, AT_FDCWD, regs->di);
		return 0;
	}
	return enter_names_call(t, regs, class, call);
}

/* vmsplice(2) out of a pipe. */
INLINE int takes(__u64 pipe)
{
	return pipe && !(GET(file, pipe, f_mode) & FMODE_WRITE);
}

/* A call on one descriptor has returned. */
INLINE void returned(struct task *t, struct task_struct *task, __u32 fd, __u32 access, long bytes)
{
	__u64 file = file_at(task, fd);
	if (t->in.shared) {
		t->in.shared = 0;
		if (!t->in.mode)
			return;
		if (file != t->in.file) { /* another thread put another file there: the identity stands, the rest is not known */
			t->in.file = 0;
			t->in.dentry = 0;
			count(COUNT_UNDECIDED);
		} else if (hot(t, access, file, bytes)) {
			return;
		}
		account(t, &t->in, access, bytes, t->entered);
		return;
	}
	if (hot(t, access, file, bytes))
		return;
	struct met met = {};
	if (meet(file, &met))
		account(t, &met, access, bytes, t->entered);
}

/* Both ends of a copy inside the kernel. */
INLINE void copied(struct task *t, struct task_struct *task, __u32 in, __u32 out, __u64 bytes)
{
	if (t->in.mode) {
		if (file_at(task, in) != t->in.file)
			t->in.file = 0;
		account(t, &t->in, FILE_READ, bytes, t->entered);
	}
	if (t->out.mode) {
		if (file_at(task, out) != t->out.file)
			t->out.file = 0;
		account(t, &t->out, FILE_WRITE, bytes, t->entered);
	}
	t->in.mode = t->out.mode = 0;
}

/* A descriptor was made: tell what the open did to the file. Whether it is read or written is told when it happens. */
APART int opened(struct task *t, long fd, __u64 flags, int made)
{
	struct task_struct *task = bpf_get_current_task_btf();
	if (!t || fd < 0)
		return 0;
	__u64 file = file_at(task, fd);
	struct met met = {};
	if (!meet(file, &met) || (met.mode & S_IFMT) != S_IFREG)
		return 0;
	__u32 mode = GET(file, file, f_mode);
	__u32 did = 0;
	if ((mode & FMODE_CREATED) || made)
		did = FILE_CREATED;
	else if ((flags & O_TRUNC) && (mode & FMODE_WRITE))
		did = FILE_TRUNCATED;
	if (!did)
		return 0;
	touch(t, &met, FILE_WRITE, did, now());
	slot_evict(t, FILE_WRITE);
	struct slot *slot = &t->slots[FILE_WRITE - 1];
	slot->file = file;
	slot->inode = met.inode;
	slot->id = met.id;
	slot->open_file = file;
	slot->calls = 0;
	slot->bytes = 0;
	return 0;
}

APART int mapped(struct task *t, __u32 fd, __u64 protection, __u64 flags)
{
	struct task_struct *task = bpf_get_current_task_btf();
	if (!t)
		return 0;
	int shared = (flags & 3) == MAP_SHARED_BIT || (flags & 3) == 3;
	if (flags & MAP_ANONYMOUS)
		return shared ? unseen(t, GAP_SHARED_MEMORY, 9) : 0;
	__u64 file = file_at(task, fd);
	struct met met = {};
	if (!meet(file, &met) || (met.mode & S_IFMT) != S_IFREG)
		return 0;
	if (shared && (GET(file, file, f_mode) & FMODE_WRITE))
		return touch(t, &met, FILE_MAP_WRITE, 0, now());
	struct slot *slot = &t->slots[FILE_MAP - 1];
	if (slot->file == file && slot->inode == met.inode)
		return 0;
	slot->file = file;
	slot->inode = met.inode;
	/* ld.so maps libraries with MAP_DENYWRITE (0x800) from their first segment on */
	return touch(t, &met, FILE_MAP, (protection & PROT_EXEC) || (flags & 0x800) ? FILE_EXECUTABLE : 0, now());
}

OUTLINE int exec_failed(struct task *t, long result, const void *name)
{
	struct scratch *s = scratch_of_cpu();
	if (!s)
		return 0;
	struct ExecFailed *r = (void *)s->bytes;
	begin(&r->header, KIND_EXEC_FAILED, t->image, now());
	r->errno = -result;
	long length = bpf_probe_read_user_str(s->bytes + sizeof(*r), TEXT, name);
	r->asked_text = length > 0 && length <= TEXT ? length : 0;
	send(r, sizeof(*r) + r->asked_text);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(call_returned, struct pt_regs *regs, long result)
{
	__u64 call = regs->orig_ax;
	if (call >= CALL_TABLE)
		return 0;
	__u8 class = settings.at_return[call];
	if (!class)
		return 0;
	struct task_struct *task = bpf_get_current_task_btf();
	struct task *t = traced(task);
	if (!t || is_compat(task))
		return 0;
	if (result < 0 && class != CALL_EXECVE && class != CALL_EXECVEAT && class != CALL_MMAP) {
		t->in.shared = 0;
		return 0;
	}
	switch (class) {
	case CALL_READ:
		returned(t, task, regs->di, FILE_READ, result);
		return 0;
	case CALL_WRITE:
		if (result > 0)
			returned(t, task, regs->di, call == 278 && takes(file_at(task, regs->di)) ? FILE_READ : FILE_WRITE, result);
		return 0;
	case CALL_OPENAT:
		return opened(t, result, regs->dx, (regs->dx & 020000000) != 0 /* __O_TMPFILE */);
	case CALL_OPEN:
		return opened(t, result, regs->si, (regs->si & 020000000) != 0);
	case CALL_CREAT:
		return opened(t, result, O_CREAT | O_TRUNC, 0);
	case CALL_OPENAT2: {
		__u64 flags = 0;
		bpf_probe_read_user(&flags, sizeof(flags), (void *)regs->dx);
		return opened(t, result, flags, (flags & 020000000) != 0);
	}
	case CALL_MEMFD:
		return opened(t, result, 0, 1);
	case CALL_MMAP:
		if ((__u64)result < -4095ULL)
			return mapped(t, regs->r8, regs->dx, regs->r10);
		return 0;
	case CALL_SENDFILE:
		copied(t, task, regs->si, regs->di, result);
		return 0;
	case CALL_COPY:
		copied(t, task, regs->di, regs->dx, result);
		return 0;
	case CALL_TEE:
		copied(t, task, regs->di, regs->si, result);
		return 0;
	case CALL_IOCTL: {
		__u32 request = regs->si;
		if (request == FIDEDUPERANGE)
			return unseen(t, GAP_DEDUPLICATION, call);
		if ((request == FICLONE || request == FICLONERANGE) && t->in.mode)
			copied(t, task, cloned(regs), regs->di, 0);
		return 0;
	}
	case CALL_CHANGE:
	case CALL_TRUNCATE:
		if (t->out.mode) {
			/* cut to nothing begins a version; any other length, or fallocate, is a write */
			if (regs->si == 0 && call != 285)
				touch(t, &t->out, FILE_WRITE, FILE_TRUNCATED, t->entered);
			else
				account(t, &t->out, FILE_WRITE, 0, t->entered);
			t->out.mode = 0;
		} else if (class == CALL_TRUNCATE) {
			return unseen(t, GAP_TRUNCATE_BY_NAME, call);
		}
		return 0;
	case CALL_EXECVE:
		return result < 0 ? exec_failed(t, result, (void *)regs->di) : 0;
	case CALL_EXECVEAT:
		return result < 0 ? exec_failed(t, result, (void *)regs->si) : 0;
	}
	if (class >= CALL_UNSEEN)
		return result > 0 || class != CALL_UNSEEN + GAP_SOCKET ? unseen(t, class - CALL_UNSEEN, call) : 0;
	struct names n = {};
	if (names_of(regs, class, call, &n))
		return exit_names(t, &n);
	return 0;
}

#endif
