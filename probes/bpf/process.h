/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/* The life of processes: fork, exec, end, and when their CPU time is complete. */
#ifndef FLOWCEPT_PROCESS_H
#define FLOWCEPT_PROCESS_H
#include "file.h"

#define PAGE 4096
#define ARGUMENTS (2 * TEXT)

/*
 * task_newtask rather than sched_process_fork: it fires before the child can run, so that no first call is missed, and
 * the kernel's own workers (io_uring) come through it too.
 */
SEC("tp_btf/task_newtask")
int BPF_PROG(process_forked, struct task_struct *child, __u64 clone_flags)
{
	struct task *t = traced(bpf_get_current_task_btf());
	if (!t)
		return 0;
	int process = !(clone_flags & CLONE_THREAD);
	if (process)
		count(COUNT_PROCESSES_FORKED);
	struct task *new = bpf_task_storage_get(&tasks, child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!new) {
		count(COUNT_STORAGE_FAILED);
		return 0;
	}
	new->image = process ? next_image() : t->image;
	if (!process)
		return 0;
	slots_bound(t, now()); /* the child may write to the same files: what the parent wrote came before */
	struct Forked *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);
	if (!r) {
		count(COUNT_DROPPED + KIND_FORKED);
		return 0;
	}
	begin(&r->header, KIND_FORKED, new->image, now());
	r->header.length = sizeof(*r);
	r->parent = t->image;
	r->start = child->start_boottime;
	r->clone_flags = clone_flags;
	__u64 mm = (__u64)GET(task_struct, child, mm);
	r->digest = mm ? image_digest(mm) : 0;
	r->pid = child->tgid;
	struct pid_names names = pid_names(child);
	r->namespace_pid = names.namespace_pid;
	r->pid_namespace = names.pid_namespace;
	r->reserved = 0;
	bpf_ringbuf_submit(r, wake_flag());
	count(COUNT_WRITTEN + KIND_FORKED);
	return 0;
}

struct threads {
	__u64 head, node, cpu, user, system, read, written;
};
static long thread_step(__u32 i, struct threads *s)
{
	if (!s->node || s->node == s->head)
		return 1;
	__u64 task = s->node - bpf_core_field_offset(struct task_struct, thread_node);
	s->cpu += GET(task_struct, task, se.sum_exec_runtime);
	s->user += GET(task_struct, task, utime);
	s->system += GET(task_struct, task, stime);
	s->read += GET(task_struct, task, ioac.read_bytes);
	s->written += GET(task_struct, task, ioac.write_bytes);
	s->node = (__u64)GET(task_struct, task, thread_node.next);
	return 0;
}

/* What the process has cost until now: threads that are gone are in signal_struct, the others are asked one by one. */
INLINE void read_costs(struct task_struct *task, struct Costs *costs)
{
	__u64 signal = (__u64)GET(task_struct, task, signal);
	struct threads s = {};
	s.head = signal + bpf_core_field_offset(struct signal_struct, thread_head);
	s.node = (__u64)GET(signal_struct, signal, thread_head.next);
	bpf_loop(4096, thread_step, &s, 0);
	costs->cpu = GET(signal_struct, signal, sum_sched_runtime) + s.cpu;
	costs->user = GET(signal_struct, signal, utime) + s.user;
	costs->system = GET(signal_struct, signal, stime) + s.system;
	costs->storage_read = GET(signal_struct, signal, ioac.read_bytes) + s.read;
	costs->storage_written = GET(signal_struct, signal, ioac.write_bytes) + s.written;
	costs->peak_memory_process = GET(signal_struct, signal, maxrss) * PAGE;
	costs->peak_memory = 0;
}

INLINE __u64 peak_memory(__u64 mm)
{
	__u64 pages = GET(mm_struct, mm, hiwater_rss);
	if (bpf_core_field_size(((struct mm_struct *)0)->rss_stat) >= 4 * bpf_core_type_size(struct percpu_counter)) {
		__s64 size = GET(mm_struct, mm, rss_stat[0].count) + GET(mm_struct, mm, rss_stat[1].count) +
			     GET(mm_struct, mm, rss_stat[3].count);
		if (size > 0 && size > pages)
			pages = size;
	}
	return pages * PAGE;
}

struct loader {
	__u64 file;
};
static long loader_found(struct task_struct *task, struct vm_area_struct *vma, struct loader *loader)
{
	loader->file = (__u64)GET(vm_area_struct, vma, vm_file);
	return 0;
}

/* The dynamic loader (PT_INTERP) is mapped by the kernel, without a call: it lies where AT_BASE says. */
INLINE void tell_loader(struct task_struct *task, struct task *t, __u64 mm, __u64 at)
{
	struct loader loader = {};
	struct met met = {};
	__u64 base = auxiliary(mm, AT_BASE_ENTRY);
	if (base && !bpf_find_vma(task, base, loader_found, &loader, 0) && meet(loader.file, &met))
		touch(t, &met, FILE_MAP, FILE_EXECUTABLE, at);
}

/* After the point of no return: the new memory map, the new credentials and the executable are all in place. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_execed, struct task_struct *task, int old_pid, struct linux_binprm *binprm)
{
	struct task *t = traced(task);
	if (!t)
		return 0;
	__u64 at = now();
	slots_drain(t, at);
	__u64 previous = t->image;
	t->image = next_image();
	t->unseen = 0;
	t->in.mode = t->out.mode = 0;
	t->in.shared = 0;
	struct scratch *s = scratch_of_cpu();
	__u64 mm = (__u64)GET(task_struct, task, mm);
	if (!s || !mm)
		return 0;
	struct Execed *r = (void *)s->bytes;
	__builtin_memset(r, 0, sizeof(*r));
	begin(&r->header, KIND_EXECED, t->image, at);
	r->previous = previous;
	r->start = task->start_boottime;
	r->digest = image_digest(mm);
	r->cgroup = bpf_get_current_cgroup_id();
	read_costs(task, &r->costs);
	r->pid = task->tgid;
	struct pid_names names = pid_names(task);
	r->namespace_pid = names.namespace_pid;
	r->pid_namespace = names.pid_namespace;
	r->mount_namespace = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	__u64 cred = (__u64)GET(task_struct, task, cred);
	r->uid = GET(cred, cred, uid.val);
	r->euid = GET(cred, cred, euid.val);
	r->gid = GET(cred, cred, gid.val);
	r->egid = GET(cred, cred, egid.val);
	__u32 end = sizeof(*r), begun;
	__u64 executable = (__u64)GET(mm_struct, mm, exe_file);
	if (executable) {
		struct met met = {};
		meet(executable, &met);
		r->executable = met.id;
		if (met.inode) {
			read_state(met.inode, &r->state);
			read_volume(met.inode, &r->volume);
		}
		struct place place = place_of(executable);
		end = walk_path(&place, end, &r->flags);
	}
	r->executable_text = end - sizeof(*r);
	begun = end;
	__u64 fs = (__u64)GET(task_struct, task, fs);
	if (fs) {
		struct place place = {(__u64)GET(fs_struct, fs, pwd.dentry), (__u64)GET(fs_struct, fs, pwd.mnt)};
		end = walk_path(&place, end, &r->flags);
	}
	r->directory_text = end - begun;
	long length;
	if (end < ROOM - TEXT) {
		length = bpf_probe_read_kernel_str(s->bytes + end, TEXT / 4, binprm->filename);
		r->asked_text = length > 0 ? length & 0xfff : 0;
		end += r->asked_text;
	}
	if (end < ROOM - TEXT) {
		length = bpf_probe_read_kernel_str(s->bytes + end, TEXT / 4, binprm->interp);
		r->interpreter_text = length > 0 ? length & 0xfff : 0;
		end += r->interpreter_text;
	}
	__u64 start = GET(mm_struct, mm, arg_start), bytes = GET(mm_struct, mm, arg_end) - start;
	r->argument_bytes = bytes;
	if (bytes > ARGUMENTS - 1)
		bytes = ARGUMENTS - 1;
	if (end < ROOM - ARGUMENTS && !bpf_probe_read_user(s->bytes + end, bytes & (ARGUMENTS - 1), (void *)start)) {
		r->argument_text = bytes;
		end += bytes & (ARGUMENTS - 1);
	}
	start = GET(mm_struct, mm, env_start), bytes = GET(mm_struct, mm, env_end) - start;
	r->environment_bytes = bytes;
	if (bytes > ARGUMENTS - 1)
		bytes = ARGUMENTS - 1;
	if (end < ROOM - ARGUMENTS && !bpf_probe_read_user(s->bytes + end, bytes & (ARGUMENTS - 1), (void *)start)) {
		r->environment_text = bytes;
		end += bytes & (ARGUMENTS - 1);
	}
	if (end <= ROOM)
		send(r, end);
	tell_loader(task, t, mm, at);
	return 0;
}

/*
 * A thread ends: what it holds is told. The process ends when signal->live reaches 0, not when its main thread does;
 * the memory map is still there.
 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_ended, struct task_struct *task)
{
	struct task *t = traced(task);
	if (!t)
		return 0;
	__u64 at = now();
	slots_drain(t, at);
	__u64 signal = (__u64)GET(task_struct, task, signal);
	if (GET(signal_struct, signal, live.counter))
		return 0;
	count(COUNT_PROCESSES_ENDED);
	struct Ended *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);
	if (!r) {
		count(COUNT_DROPPED + KIND_ENDED);
		return 0;
	}
	begin(&r->header, KIND_ENDED, t->image, at);
	r->header.length = sizeof(*r);
	read_costs(task, &r->costs);
	__u64 mm = (__u64)GET(task_struct, task, mm);
	if (mm)
		r->costs.peak_memory = peak_memory(mm);
	r->pid = task->tgid;
	/* exit_group(2) and fatal signals set the group's code; the last thread's own may be another */
	int code = GET(signal_struct, signal, group_exit_code);
	r->code = code ? code : task->exit_code;
	bpf_ringbuf_submit(r, wake_flag());
	count(COUNT_WRITTEN + KIND_ENDED);
	return 0;
}

/*
 * sum_exec_runtime at sched_process_exit lacks the time since the last tick (0 ns for /bin/true); when the leader is
 * freed, signal->sum_sched_runtime has everything, the leader included.
 */
SEC("tp_btf/sched_process_free")
int BPF_PROG(process_freed, struct task_struct *task)
{
	if (task->pid != task->tgid)
		return 0;
	struct task *t = traced(task);
	if (!t)
		return 0;
	struct Freed *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);
	if (!r) {
		count(COUNT_DROPPED + KIND_FREED);
		return 0;
	}
	begin(&r->header, KIND_FREED, t->image, now());
	r->header.length = sizeof(*r);
	r->cpu = BPF_CORE_READ(task, signal, sum_sched_runtime);
	bpf_ringbuf_submit(r, wake_flag());
	count(COUNT_WRITTEN + KIND_FREED);
	return 0;
}

#endif
