/*
 * calls NAME: makes the system call of that name by its number, so that no other does the work. The working directory has the
 * files a ("alpha\n") and b ("bravo\n"). Exit code 77: this kernel refuses it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char bytes[7] = "delta\n";
static struct iovec vector = {bytes, 6};
static const char *asked;

#define IS(name) (!strcmp(asked, #name))
#define CALL(name, ...) checked(syscall(SYS_##name, ##__VA_ARGS__), #name)

/* Ends the program where a call failed, or where this kernel or filesystem has none such. */
static long checked(long result, const char *what)
{
	if (result < 0) {
		int refused = errno == ENOSYS || errno == EPERM || errno == EOPNOTSUPP;
		perror(what);
		exit(refused ? 77 : 1);
	}
	return result;
}

static int file(const char *name, int flags)
{
	return CALL(openat, AT_FDCWD, name, flags, 0600);
}

/* A child does the other side, so that the gap or the bytes of a call belong to one process only. */
static int child(void)
{
	return checked(fork(), "fork") == 0;
}

static void ended(void)
{
	int status;
	while (wait(&status) > 0)
		if (status)
			exit(1);
}

static int reads(void)
{
	int a = file("a", O_RDONLY);
	if (IS(pread64))
		CALL(pread64, a, bytes, 6, 0);
	else if (IS(readv))
		CALL(readv, a, &vector, 1);
	else if (IS(preadv))
		CALL(preadv, a, &vector, 1, 0, 0);
	else if (IS(preadv2))
		CALL(preadv2, a, &vector, 1, 0, 0, 0);
	else
		return 0;
	return 1;
}

static int writes(void)
{
	int b = file("b", O_WRONLY);
	if (IS(pwrite64))
		CALL(pwrite64, b, bytes, 6, 0);
	else if (IS(writev))
		CALL(writev, b, &vector, 1);
	else if (IS(pwritev))
		CALL(pwritev, b, &vector, 1, 0, 0);
	else if (IS(pwritev2))
		CALL(pwritev2, b, &vector, 1, 0, 0, 0);
	else if (IS(fallocate))
		CALL(fallocate, b, 0, 0L, 4096L);
	else
		return 0;
	return 1;
}

/* Files are made or cut to nothing, and not a byte is written. */
static int opens(void)
{
	if (IS(open)) {
		CALL(open, "out", O_WRONLY | O_CREAT, 0600);
	} else if (IS(creat)) {
		CALL(creat, "out", 0600);
	} else if (IS(openat2)) {
		struct open_how how = {.flags = O_WRONLY | O_CREAT, .mode = 0600};
		CALL(openat2, AT_FDCWD, "out", &how, sizeof(how));
	} else if (IS(open_by_handle_at)) {
		struct {
			struct file_handle handle;
			char room[128];
		} h = {.handle.handle_bytes = 128};
		int mount;
		CALL(name_to_handle_at, AT_FDCWD, "b", &h.handle, &mount, 0);
		CALL(open_by_handle_at, file(".", O_RDONLY | O_DIRECTORY), &h.handle, O_WRONLY | O_TRUNC);
	} else if (IS(memfd_create)) {
		CALL(memfd_create, "out", 0);
	} else if (IS(dup3)) {
		/* what was done through a descriptor is told when another takes its place */
		int out = file("out", O_WRONLY | O_CREAT);
		CALL(write, out, bytes, 6);
		CALL(dup3, file("/dev/null", O_RDONLY), out, O_CLOEXEC);
	} else {
		return 0;
	}
	return 1;
}

/* One child before us writes into a pipe, one behind us reads. */
static int pipes(void)
{
	int before[2], behind[2];
	if (!IS(vmsplice) && !IS(vmsplice_from) && !IS(tee))
		return 0;
	CALL(pipe2, before, 0);
	CALL(pipe2, behind, 0);
	if (IS(vmsplice)) {
		CALL(vmsplice, behind[1], &vector, 1, 0);
	} else {
		if (child()) {
			CALL(write, before[1], bytes, 6);
			_exit(0);
		}
		ended();
		if (IS(tee))
			CALL(tee, before[0], behind[1], 6, 0);
		else
			CALL(vmsplice, before[0], &vector, 1, 0); /* out of a pipe it takes */
	}
	if (!IS(vmsplice_from) && child()) {
		CALL(read, behind[0], bytes, 6);
		_exit(0);
	}
	ended();
	return 1;
}

static int names(void)
{
	int here = file(".", O_RDONLY | O_DIRECTORY);
	if (IS(renameat))
		CALL(renameat, here, "a", here, "out");
	else if (IS(renameat2))
		CALL(renameat2, here, "a", here, "b", RENAME_EXCHANGE);
	else if (IS(mkdir))
		CALL(mkdir, "out", 0700);
	else if (IS(mkdirat))
		CALL(mkdirat, here, "out", 0700);
	else if (IS(execve) || IS(execveat)) {
		char *none[] = {"no-such", 0};
		long result = IS(execve) ? syscall(SYS_execve, "./no-such", none, none + 1)
					 : syscall(SYS_execveat, here, "no-such", none, none + 1, 0);
		return result == -1 && errno == ENOENT;
	} else
		return 0;
	return 1;
}

/* Names change, and the process goes on as another program. */
static int passes(void)
{
	char *next[] = {"true", 0};
	if (IS(symlink))
		CALL(symlink, "a", "out");
	else if (IS(symlinkat))
		CALL(symlinkat, "a", file(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "out");
	else if (IS(rmdir))
		CALL(rmdir, "empty");
	else if (!IS(nothing))
		return 0;
	execv("/bin/true", next);
	exit(1);
}

static int sockets(void)
{
	int ends[2];
	struct mmsghdr many = {.msg_hdr = {.msg_iov = &vector, .msg_iovlen = 1}};
	struct msghdr *one = &many.msg_hdr;
	int receives = IS(recvfrom) || IS(recvmsg) || IS(recvmmsg);
	if (!receives && !IS(sendto) && !IS(sendmsg) && !IS(sendmmsg))
		return 0;
	CALL(socketpair, AF_UNIX, SOCK_STREAM, 0, ends);
	if (receives && child()) {
		CALL(sendto, ends[1], bytes, 6, 0, 0, 0);
		_exit(0);
	}
	ended();
	if (IS(sendto))
		CALL(sendto, ends[0], bytes, 6, 0, 0, 0);
	else if (IS(sendmsg))
		CALL(sendmsg, ends[0], one, 0);
	else if (IS(sendmmsg))
		CALL(sendmmsg, ends[0], &many, 1, 0);
	else if (IS(recvfrom))
		CALL(recvfrom, ends[0], bytes, 6, 0, 0, 0);
	else if (IS(recvmsg))
		CALL(recvmsg, ends[0], one, 0);
	else
		CALL(recvmmsg, ends[0], &many, 1, 0, 0);
	return 1;
}

static int queues(void)
{
	struct {
		long kind;
		char text[6];
	} message = {1, "delta"};
	if (IS(msgsnd) || IS(msgrcv)) {
		int queue = CALL(msgget, IPC_PRIVATE, IPC_CREAT | 0600);
		if (IS(msgsnd)) {
			CALL(msgsnd, queue, &message, 6, 0);
		} else if (child()) {
			CALL(msgsnd, queue, &message, 6, 0);
			_exit(0);
		}
		ended();
		if (IS(msgrcv))
			CALL(msgrcv, queue, &message, 6, 0, 0);
		CALL(msgctl, queue, IPC_RMID, 0);
	} else if (IS(mq_timedsend) || IS(mq_timedreceive)) {
		/* struct mq_attr of <mqueue.h>, whose functions live in another library */
		long attributes[8] = {0, 1, 6};
		char name[32];
		snprintf(name, sizeof(name), "flowcept-%d", getpid());
		int queue = CALL(mq_open, name, O_RDWR | O_CREAT | O_EXCL, 0600, attributes);
		CALL(mq_unlink, name);
		if (IS(mq_timedsend)) {
			CALL(mq_timedsend, queue, bytes, 6, 0, 0);
		} else if (child()) {
			CALL(mq_timedsend, queue, bytes, 6, 0, 0);
			_exit(0);
		}
		ended();
		if (IS(mq_timedreceive))
			CALL(mq_timedreceive, queue, bytes, 6, 0, 0);
	} else {
		return 0;
	}
	return 1;
}

static int memories(void)
{
	char to[6];
	struct iovec other = {to, 6};
	if (IS(process_vm_readv)) {
		CALL(process_vm_readv, getpid(), &other, 1, &vector, 1, 0);
	} else if (IS(process_vm_writev)) {
		CALL(process_vm_writev, getpid(), &vector, 1, &other, 1, 0);
	} else if (IS(shmat)) {
		int memory = CALL(shmget, IPC_PRIVATE, 4096, IPC_CREAT | 0600);
		CALL(shmat, memory, 0, 0);
		CALL(shmctl, memory, IPC_RMID, 0);
	} else {
		return 0;
	}
	return 1;
}

static int rings(void)
{
	if (IS(io_uring_enter)) {
		struct io_uring_params parameters = {0};
		int ring = CALL(io_uring_setup, 1, &parameters);
		CALL(io_uring_enter, ring, 0, 0, 0, 0, 0);
	} else if (IS(io_submit)) {
		aio_context_t context = 0;
		struct iocb block = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_nbytes = 6};
		struct iocb *blocks[] = {&block};
		block.aio_fildes = file("a", O_RDONLY);
		block.aio_buf = (unsigned long)bytes;
		CALL(io_setup, 1, &context);
		CALL(io_submit, context, 1, blocks);
		CALL(io_destroy, context);
	} else {
		return 0;
	}
	return 1;
}

/* b becomes a's twin, by ioctl(2). */
static int clones(void)
{
	struct {
		struct file_dedupe_range from;
		struct file_dedupe_range_info to;
	} same = {{.src_length = 6, .dest_count = 1}, {0}};
	struct file_clone_range range = {0};
	int a = file("a", O_RDONLY);
	if (IS(ficlone)) {
		CALL(ioctl, file("b", O_WRONLY), FICLONE, a);
	} else if (IS(ficlonerange)) {
		range.src_fd = a;
		CALL(ioctl, file("b", O_WRONLY), FICLONERANGE, &range);
	} else if (IS(fideduperange)) {
		/* whether the blocks are the same or may be shared at all is told in `same` */
		same.to.dest_fd = file("b", O_RDWR);
		CALL(ioctl, a, FIDEDUPERANGE, &same);
	} else {
		return 0;
	}
	return 1;
}

static int pair[2], thread;

static void *blocks(void *unused)
{
	thread = CALL(gettid);
	CALL(read, pair[0], bytes, 6);
	return unused;
}

/* A thread reads from a pipe; while it waits, the descriptor becomes that of b. */
static int swaps(void)
{
	pthread_t reader;
	char name[64], state = 0;
	if (!IS(swap))
		return 0;
	CALL(pipe2, pair, 0);
	if (pthread_create(&reader, 0, blocks, 0))
		exit(1);
	while (state != 'S') {
		usleep(1000);
		snprintf(name, sizeof(name), "/proc/self/task/%d/stat", *(volatile int *)&thread);
		FILE *stat = fopen(name, "r");
		if (stat && fscanf(stat, "%*d %*s %c", &state) != 1)
			state = 0;
		if (stat)
			fclose(stat);
	}
	CALL(dup2, file("b", O_RDONLY), pair[0]);
	CALL(write, pair[1], "alpha\n", 6);
	pthread_join(reader, 0);
	return !memcmp(bytes, "alpha\n", 6);
}

/* Calls of the 32-bit table, whose addresses have 32 bits. */
static int narrow(void)
{
	int number = IS(compat_write) ? 4 : IS(compat_read) ? 3 : 0;
	if (!number)
		return 0;
#ifdef __x86_64__
	int fd = number == 4 ? file("b", O_WRONLY) : file("a", O_RDONLY);
	char *low = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long result = number;
	if (low == MAP_FAILED)
		exit(1);
	__asm__ volatile("int $0x80" : "+a"(result) : "b"((long)fd), "c"(low), "d"(6L) : "memory", "r8", "r9", "r10", "r11");
	exit(result == 6 ? 0 : 77);
#endif
	exit(77);
}

static long cpu_time(void)
{
	struct timespec spent;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
	return spent.tv_sec * 1000000000L + spent.tv_nsec;
}

/* 0.2 s of CPU time, from here on. */
static int burns(void)
{
	long begun = cpu_time();
	if (!IS(burn))
		return 0;
	while (cpu_time() - begun < 200000000)
		;
	return 1;
}

int main(int count, char **arguments)
{
	asked = count == 2 ? arguments[1] : "";
	int known = burns() || pipes() || passes() || sockets() || queues() || memories() || swaps() || narrow() || opens() ||
		    names() || rings() || clones() || reads() || writes();
	if (!known)
		fprintf(stderr, "calls: cannot do '%s'\n", asked);
	return known ? 0 : 1;
}
