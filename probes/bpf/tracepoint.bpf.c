// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * The tracepoint rung: tp_btf programs for the life of processes and two dispatchers for system calls. Needs kernel BTF
 * (CONFIG_DEBUG_INFO_BTF) and task storage in tp_btf (5.11), bpf_loop (5.17).
 */
#include "kernel.h"
#include "emit.h"
#include "path.h"
#include "task.h"
#include "file.h"
#include "name.h"
#include "process.h"
#include "syscall.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Run once after load: the kernel's count of ticks beside its clock. */
SEC("syscall")
int read_clock(void *context)
{
	clock.ticks = bpf_jiffies64();
	clock.monotonic = bpf_ktime_get_ns();
	return 0;
}
