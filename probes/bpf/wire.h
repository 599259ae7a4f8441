/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0 */
/* Generated from probes/wire by `cargo xtask codegen`; not to be edited. */

#ifndef FLOWCEPT_WIRE_H
#define FLOWCEPT_WIRE_H

typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;


/**
 * Begins every record.
 */
struct Header {
  /**
   * One of [`Kind`].
   */
  uint16_t kind;
  /**
   * [`VERSION`] of the writer.
   */
  uint16_t version;
  /**
   * Bytes of the whole record, header and text included.
   */
  uint32_t length;
  /**
   * The writer's number of the program image that did it; unique while the probes are loaded.
   */
  uint64_t image;
  /**
   * When, in nanoseconds of CLOCK_BOOTTIME: causes are stamped early, effects late.
   */
  uint64_t at;
};

/**
 * A process was forked (`tp_btf/task_newtask` without CLONE_THREAD); `header.image` is the child's.
 */
struct Forked {
  /**
   * Header; `image` is the new process's first image.
   */
  struct Header header;
  /**
   * The image that forked it.
   */
  uint64_t parent;
  /**
   * Start of the process, ns of CLOCK_BOOTTIME (`task_struct.start_boottime`).
   */
  uint64_t start;
  /**
   * Flags of clone(2).
   */
  uint64_t clone_flags;
  /**
   * SipHash-2-4 of the first 8 bytes at AT_RANDOM, as copied from the parent.
   */
  uint64_t digest;
  /**
   * Thread-group id in the initial pid namespace.
   */
  uint32_t pid;
  /**
   * Thread-group id in its innermost pid namespace.
   */
  uint32_t namespace_pid;
  /**
   * Inode number of that namespace.
   */
  uint32_t pid_namespace;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * What a process has cost since it was forked; differences are the reader's business.
 */
struct Costs {
  /**
   * `sum_exec_runtime` of all its threads, ns; at exec and exit it lacks the time since the last tick.
   */
  uint64_t cpu;
  /**
   * Scaled user time, ns (`task_struct.utime` and `signal_struct.utime`).
   */
  uint64_t user;
  /**
   * Scaled system time, ns.
   */
  uint64_t system;
  /**
   * Bytes fetched from storage (`task_io_accounting.read_bytes`).
   */
  uint64_t storage_read;
  /**
   * Bytes sent to storage.
   */
  uint64_t storage_written;
  /**
   * Peak of this memory map, bytes (`mm.hiwater_rss` or the current size if that is larger).
   */
  uint64_t peak_memory;
  /**
   * Peak of the process over all its images, bytes (`signal.maxrss`).
   */
  uint64_t peak_memory_process;
};

/**
 * Which file, as the kernel knows it.
 */
struct File {
  /**
   * `inode.i_ino`; 0 for none.
   */
  uint64_t inode;
  /**
   * `super_block.s_dev`, in the kernel's own coding (12 bits major, 20 bits minor).
   */
  uint32_t device;
  /**
   * `inode.i_generation`.
   */
  uint32_t generation;
};

/**
 * The filesystem of a file.
 */
struct Volume {
  /**
   * `super_block.s_uuid`, zero where there is none.
   */
  uint8_t uuid[16];
  /**
   * `super_block.s_magic`, as statfs(2) names it.
   */
  uint32_t magic;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * The state of a file at the time of the record.
 */
struct State {
  /**
   * Bytes.
   */
  uint64_t size;
  /**
   * Last change of content, ns since 1970.
   */
  uint64_t mtime;
  /**
   * Last change of content or attributes, ns since 1970.
   */
  uint64_t ctime;
  /**
   * `inode.i_mode`.
   */
  uint32_t mode;
  /**
   * `inode.i_nlink`.
   */
  uint32_t links;
};

/**
 * A program image began (`tp_btf/sched_process_exec`); `header.image` is the new one.
 *
 * Text: executable path, working directory, name given to execve(2), interpreter asked for, arguments, environment;
 * the first two leaf first, each component ended by NUL.
 */
struct Execed {
  /**
   * Header; `image` is the new image.
   */
  struct Header header;
  /**
   * The image of the same process that ended by this.
   */
  uint64_t previous;
  /**
   * As [`Forked::start`].
   */
  uint64_t start;
  /**
   * SipHash-2-4 of the first 8 bytes at AT_RANDOM, new at each exec.
   */
  uint64_t digest;
  /**
   * cgroup v2 id.
   */
  uint64_t cgroup;
  /**
   * What the process had cost until then.
   */
  struct Costs costs;
  /**
   * The executable that the kernel runs (`mm.exe_file`).
   */
  struct File executable;
  /**
   * Where it lies.
   */
  struct Volume volume;
  /**
   * Its state.
   */
  struct State state;
  /**
   * As in [`Forked`].
   */
  uint32_t pid;
  /**
   * As in [`Forked`].
   */
  uint32_t namespace_pid;
  /**
   * As in [`Forked`].
   */
  uint32_t pid_namespace;
  /**
   * Inode number of the mount namespace.
   */
  uint32_t mount_namespace;
  /**
   * Real user id in the initial user namespace.
   */
  uint32_t uid;
  /**
   * Effective user id.
   */
  uint32_t euid;
  /**
   * Real group id.
   */
  uint32_t gid;
  /**
   * Effective group id.
   */
  uint32_t egid;
  /**
   * Bytes of the arguments in the process; `argument_text` may be less.
   */
  uint32_t argument_bytes;
  /**
   * Bytes of the environment in the process; `environment_text` may be less.
   */
  uint32_t environment_bytes;
  /**
   * Length of each part of the text, in their order.
   */
  uint16_t executable_text;
  /**
   * See `executable_text`.
   */
  uint16_t directory_text;
  /**
   * See `executable_text`.
   */
  uint16_t asked_text;
  /**
   * See `executable_text`.
   */
  uint16_t interpreter_text;
  /**
   * See `executable_text`.
   */
  uint16_t argument_text;
  /**
   * See `executable_text`.
   */
  uint16_t environment_text;
  /**
   * [`crate::file::PATH_CUT`] where a path was longer than the walk.
   */
  uint32_t flags;
};

/**
 * An execve(2) that failed. Text: the name given. The library writes it before the call: while `errno` is 0 the call has not
 * failed, and another image has begun, with the library in it or not.
 */
struct ExecFailed {
  /**
   * Header.
   */
  struct Header header;
  /**
   * errno.
   */
  uint32_t errno;
  /**
   * Bytes of text: the name given, with its NUL.
   */
  uint32_t asked_text;
};

/**
 * The last thread of a process has ended (`tp_btf/sched_process_exit`, `signal.live` = 0).
 */
struct Ended {
  /**
   * Header.
   */
  struct Header header;
  /**
   * What the process has cost.
   */
  struct Costs costs;
  /**
   * As in [`Forked`].
   */
  uint32_t pid;
  /**
   * As wait(2) has it: status << 8, or the signal, with 0x80 for a core dump.
   */
  uint32_t code;
};

/**
 * A process was freed (`tp_btf/sched_process_free`): its CPU time is complete now.
 */
struct Freed {
  /**
   * Header.
   */
  struct Header header;
  /**
   * `sum_exec_runtime` of all threads, ns, over all images.
   */
  uint64_t cpu;
};

/**
 * An image's first use of a file in one direction. Text: the path, leaf first, each component ended by NUL.
 */
struct Touched {
  /**
   * Header.
   */
  struct Header header;
  /**
   * Which file.
   */
  struct File file;
  /**
   * The directory that its name is in; inode 0 for none.
   */
  struct File directory;
  /**
   * Its filesystem.
   */
  struct Volume volume;
  /**
   * Its state.
   */
  struct State state;
  /**
   * Names the open file (the address of `struct file`), to be compared only, and only while it is open.
   */
  uint64_t open_file;
  /**
   * [`READ`], [`WRITE`], [`MAP`] or [`MAP_WRITE`].
   */
  uint32_t access;
  /**
   * [`CREATED`] and so on.
   */
  uint32_t flags;
};

/**
 * What an image did with a file in one direction since its [`Touched`]. No text.
 */
struct Summed {
  /**
   * Header; `at` is when the sum was taken.
   */
  struct Header header;
  /**
   * Which file.
   */
  struct File file;
  /**
   * Its state then; all 0 where it could not be read any more.
   */
  struct State state;
  /**
   * Bytes moved.
   */
  uint64_t bytes;
  /**
   * Calls.
   */
  uint64_t calls;
  /**
   * First use, ns of CLOCK_BOOTTIME.
   */
  uint64_t first;
  /**
   * Not before the last use, and at most a tick after it where no other stamp bounds it.
   */
  uint64_t last;
  /**
   * As [`Touched::open_file`]; 0 where more than one was used.
   */
  uint64_t open_file;
  /**
   * As in [`Touched`].
   */
  uint32_t access;
  /**
   * [`LAST_CLOSE`], [`NOT_SUMMED`].
   */
  uint32_t flags;
};

/**
 * A change of names. Text: the path of `file` under its new name (walked; empty where it was not found), then for each of
 * the two names the path of the directory that it is relative to (leaf first, NUL ended) and the name as given, with its NUL.
 */
struct Named {
  /**
   * Header; `at` is before the call.
   */
  struct Header header;
  /**
   * When the call returned.
   */
  uint64_t returned;
  /**
   * The file that the first name meant; inode 0 where it was not found.
   */
  struct File file;
  /**
   * The file that the second name meant before; inode 0 for none or not found.
   */
  struct File replaced;
  /**
   * The directory of the first name; inode 0 where it was not resolved.
   */
  struct File directory;
  /**
   * The directory of the second name.
   */
  struct File directory_new;
  /**
   * The filesystem.
   */
  struct Volume volume;
  /**
   * The state of `file`.
   */
  struct State state;
  /**
   * [`RENAME`] and so on.
   */
  uint32_t operation;
  /**
   * [`PATH_CUT`].
   */
  uint32_t flags;
  /**
   * Length of each part of the text.
   */
  uint16_t walked_text;
  /**
   * See `walked_text`.
   */
  uint16_t base_text;
  /**
   * See `walked_text`.
   */
  uint16_t name_text;
  /**
   * See `walked_text`.
   */
  uint16_t base_new_text;
  /**
   * See `walked_text`.
   */
  uint16_t name_new_text;
  /**
   * 0.
   */
  uint16_t reserved[3];
};

/**
 * The image used a mechanism that these probes do not follow; sent once an image and mechanism. No text.
 */
struct Unseen {
  /**
   * Header.
   */
  struct Header header;
  /**
   * One of the constants of this module.
   */
  uint32_t mechanism;
  /**
   * The number of the system call.
   */
  uint32_t call;
};

#define HEADER_VERSION 1
#define KIND_FORKED 1
#define KIND_EXECED 2
#define KIND_EXEC_FAILED 3
#define KIND_ENDED 4
#define KIND_FREED 5
#define KIND_TOUCHED 6
#define KIND_SUMMED 7
#define KIND_NAMED 8
#define KIND_UNSEEN 9
#define KIND_BEGAN 16
#define KIND_USED 17
#define KIND_MOVED 18
#define KIND_RENAMED 19
#define KIND_STARTED 20
#define KIND_WAITED 21
#define KIND_EXITED 22
#define FILE_READ 1
#define FILE_WRITE 2
#define FILE_MAP 3
#define FILE_MAP_WRITE 4
#define FILE_CREATED 1
#define FILE_TRUNCATED 2
#define FILE_NAMELESS 4
#define FILE_UNCERTAIN 8
#define FILE_PATH_CUT 16
#define FILE_EXECUTABLE 32
#define FILE_LAST_CLOSE 64
#define FILE_NOT_SUMMED 128
#define FILE_RENAME 1
#define FILE_EXCHANGE 2
#define FILE_LINK 3
#define FILE_UNLINK 4
#define FILE_SYMLINK 5
#define FILE_MKDIR 6
#define FILE_RMDIR 7
#define FILE_TMPFS 0x0102_1994
#define GAP_IO_URING 1
#define GAP_LIBAIO 2
#define GAP_SOCKET 3
#define GAP_SYSV_SHARED_MEMORY 4
#define GAP_MESSAGE_QUEUE 5
#define GAP_PROCESS_VM 6
#define GAP_COMPAT 7
#define GAP_SHARED_MEMORY 8
#define GAP_DEDUPLICATION 9
#define GAP_TRUNCATE_BY_NAME 10
#define GAP_SANDBOX 11
#define GAP_NUMBERED_CALL 12
#define COUNT_COUNTERS 32
#define COUNT_WRITTEN 0
#define COUNT_DROPPED 10
#define COUNT_SUMS_FULL 20
#define COUNT_STORAGE_FAILED 21
#define COUNT_PATHS_CUT 22
#define COUNT_UNDECIDED 23
#define COUNT_PROCESSES_FORKED 24
#define COUNT_PROCESSES_ENDED 25
#define COUNT_NAMES_UNRESOLVED 26
#define CALL_NONE 0
#define CALL_READ 1
#define CALL_WRITE 2
#define CALL_OPENAT 3
#define CALL_OPEN 4
#define CALL_CREAT 5
#define CALL_OPENAT2 6
#define CALL_CLOSE 7
#define CALL_DUP2 8
#define CALL_MMAP 9
#define CALL_SENDFILE 10
#define CALL_COPY 11
#define CALL_TEE 12
#define CALL_IOCTL 13
#define CALL_CHANGE 14
#define CALL_TRUNCATE 15
#define CALL_NAMES 16
#define CALL_NAMES_AT 17
#define CALL_NAME 18
#define CALL_NAME_AT 19
#define CALL_SYMLINK 20
#define CALL_SYMLINK_AT 21
#define CALL_EXECVE 22
#define CALL_EXECVEAT 23
#define CALL_MEMFD 24
#define CALL_UNSEEN 32
#define CALL_TABLE 512
_Static_assert(sizeof(struct Header) == 24, "Header");
_Static_assert(sizeof(struct File) == 16, "File");
_Static_assert(sizeof(struct Volume) == 24, "Volume");
_Static_assert(sizeof(struct State) == 32, "State");
_Static_assert(sizeof(struct Touched) == 128, "Touched");
_Static_assert(sizeof(struct Summed) == 120, "Summed");
_Static_assert(sizeof(struct Named) == 176, "Named");
_Static_assert(sizeof(struct Forked) == 72, "Forked");
_Static_assert(sizeof(struct Costs) == 56, "Costs");
_Static_assert(sizeof(struct Execed) == 240, "Execed");
_Static_assert(sizeof(struct ExecFailed) == 32, "ExecFailed");
_Static_assert(sizeof(struct Ended) == 88, "Ended");
_Static_assert(sizeof(struct Freed) == 32, "Freed");
_Static_assert(sizeof(struct Unseen) == 32, "Unseen");

#endif  /* FLOWCEPT_WIRE_H */
