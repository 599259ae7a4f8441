/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/* Reserve, fill, submit; a record for which there is no room is counted by kind and never waited for. */
#ifndef FLOWCEPT_EMIT_H
#define FLOWCEPT_EMIT_H
#include "kernel.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNT_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* What user space decides before load: sections of their own, so that it finds them by name. */
struct settings {
	__u64 wake_bytes; /* bytes in the ring from which the reader is woken; below, it comes by itself */
	/* classes by call number, for the two dispatchers */
	__u8 at_entry[CALL_TABLE];
	__u8 at_return[CALL_TABLE];
};
const volatile struct settings settings SEC(".rodata.settings") = {};

/* How long a tick is, which user space finds out once after load. */
struct clock {
	__u64 ticks, monotonic; /* read by read_clock */
	__u64 tick;             /* ns */
};
struct clock clock SEC(".data.clock") = {.tick = 1000000};

/*
 * Room for the largest record: its fixed part and, right behind, its text, at most up to ROOM. Per CPU, used only between
 * two points without preemption; a value of a per-CPU map is at most 32 KiB.
 */
#define TEXT 4096
#define ROOM (256 + 7 * TEXT)
struct scratch {
	char bytes[ROOM + 512];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

INLINE void count(__u32 which)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &which);
	if (counter)
		*counter += 1; /* per CPU */
}

INLINE struct scratch *scratch_of_cpu(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&scratches, &zero);
}

INLINE __u64 now(void)
{
	return bpf_ktime_get_boot_ns();
}

INLINE void begin(struct Header *header, __u16 kind, __u64 image, __u64 at)
{
	header->kind = kind;
	header->version = HEADER_VERSION;
	header->image = image;
	header->at = at;
}

/* Waking costs more than a record: only above the threshold, else the reader's poll finds it. */
INLINE __u64 wake_flag(void)
{
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) > settings.wake_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* Sends a record whose length is known only now. */
INLINE void send(void *record, __u32 length)
{
	struct Header *header = record;
	__u16 kind = header->kind;
	header->length = length;
	count((bpf_ringbuf_output(&ring, record, length, wake_flag()) ? COUNT_DROPPED : COUNT_WRITTEN) + kind);
}

#endif
