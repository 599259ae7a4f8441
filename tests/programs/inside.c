/*
 * inside NAME [PROGRAM]: one way to open a file, start a program or end. The working directory has the file a ("alpha\n"); what
 * is made is the file made. Before it ends it prints which descriptors it has. LOOK, where it is defined, makes of this file the
 * library that is opened by dlopen(3), or the smallest program for another C library.
 */
#ifdef LOOK
#include <fcntl.h>
#include <unistd.h>

int look(void)
{
	char text[16];
	int fd = open("a", O_RDONLY);
	int count = read(fd, text, sizeof text);
	close(fd);
	return count;
}

int main(void)
{
	return look() != 6;
}
#else
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static const char *self, *other;

static void check(int good, const char *what)
{
	if (!good) {
		dprintf(2, "%s: %s\n", what, strerror(errno));
		_exit(9);
	}
}

static void read_all(int fd)
{
	char text[64];
	check(fd >= 0, "open");
	check(read(fd, text, sizeof text) == 6 && !memcmp(text, "alpha\n", 6), "read");
	close(fd);
}

static void look(void)
{
	read_all(open("a", O_RDONLY));
}

static int looks_and_ends(void *nothing)
{
	(void)nothing;
	look();
	_exit(3);
}

/* Not even by way of syscall(2). */
static long inline_call(long number, long a, long b, long c)
{
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return result;
}

pid_t _Fork(void) __attribute__((weak));

/* Which descriptors there are: asked of the kernel, so that nobody stands between. */
static void descriptors(void)
{
	fflush(NULL);
	for (int fd = 0; fd < 2000; fd++)
		if (syscall(SYS_fcntl, fd, F_GETFD) >= 0)
			dprintf(1, "fd %d\n", fd);
}

static void ended(int pid)
{
	int status = 0;
	check(pid > 0 && waitpid(pid, &status, 0) == pid, "wait");
	dprintf(1, "child ended with %x\n", status);
}

static void *looks(void *unused)
{
	look();
	return unused;
}

static int pipe_of_blocked[2];
static int cleaned;

static void clean(void *unused)
{
	(void)unused;
	cleaned = 1;
}

static void *blocks(void *unused)
{
	char byte;
	look();
	pthread_cleanup_push(clean, NULL);
	check(read(pipe_of_blocked[0], &byte, 1) != 1, "read of an empty pipe");
	pthread_cleanup_pop(0);
	return unused;
}

static void many_threads(void)
{
	static pthread_t threads[300];
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 1 << 16);
	for (int i = 0; i < 300; i++)
		check(!pthread_create(&threads[i], &small, looks, NULL), "thread");
	for (int i = 0; i < 300; i++)
		pthread_join(threads[i], NULL);
}

static void cancel(void)
{
	pthread_t thread;
	void *result;
	check(!pipe(pipe_of_blocked) && !pthread_create(&thread, NULL, blocks, NULL), "thread");
	usleep(50000);
	check(!pthread_cancel(thread) && !pthread_join(thread, &result), "cancel");
	dprintf(1, "%s %d\n", result == PTHREAD_CANCELED ? "cancelled" : "went on", cleaned);
}

static int reads_in_clone(void *argument)
{
	execv(self, argument);
	_exit(127);
}

static void io_uring(void)
{
	struct io_uring_params how = {0};
	int ring = syscall(SYS_io_uring_setup, 4, &how);
	if (ring < 0)
		_exit(77);
	size_t bytes = how.sq_off.array + how.sq_entries * 4 + 4096;
	char *sq = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
	struct io_uring_sqe *entries =
	    mmap(NULL, how.sq_entries * sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	check(sq != MAP_FAILED && (void *)entries != MAP_FAILED, "io_uring");
	memset(entries, 0, sizeof *entries);
	entries->opcode = IORING_OP_OPENAT;
	entries->fd = AT_FDCWD;
	entries->addr = (unsigned long)"a";
	((unsigned *)(sq + how.sq_off.array))[0] = 0;
	*(volatile unsigned *)(sq + how.sq_off.tail) += 1;
	__sync_synchronize();
	check(syscall(SYS_io_uring_enter, ring, 1, 1, 1, NULL, 0) == 1, "io_uring_enter");
	close(ring);
}

/* Forbids, on pain of death, some calls that this program does not make. */
static void sandbox(int by_prctl)
{
	struct sock_filter rules[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_statx, 3, 0),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_name_to_handle_at, 2, 0),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fallocate, 1, 0),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog filter = {sizeof rules / sizeof *rules, rules};
	check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl");
	if (by_prctl)
		check(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), "seccomp");
	else
		check(!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter), "seccomp");
}

static volatile int handled;

static void handle(int unused)
{
	int was = errno, fd = open("made", O_WRONLY | O_CREAT | O_APPEND, 0600);
	(void)unused;
	if (fd >= 0) {
		if (write(fd, "x", 1) == 1)
			handled++;
		close(fd);
	}
	errno = was;
}

/* Opens and allocates while a handler does the same a thousand times a second. So often at most that there is room to tell it,
 * however fast the machine is. */
static void signals(void)
{
	int often_enough = 100000;
	struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
	struct itimerval often = {{0, 1000}, {0, 1000}}, never = {0};
	struct timespec begun, now;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	do {
		char line[16];
		void *memory = malloc(100 + handled % 1000);
		int fd = open("a", O_RDONLY);
		FILE *stream = fopen("a", "r");
		check(fd >= 0 && stream && memory && fgets(line, sizeof line, stream), "open");
		check(read(fd, line, sizeof line) == 6 && !memcmp(line, "alpha\n", 6), "read");
		fclose(stream);
		close(fd);
		free(memory);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (--often_enough && now.tv_sec - begun.tv_sec < 3);
	setitimer(ITIMER_REAL, &never, NULL);
	dprintf(1, "%s\n", handled > 100 ? "handled" : "not handled");
	struct stat made;
	check(!stat("made", &made) && made.st_size == handled, "made");
}

/* What errno is after each call: another value than before only where the call itself has set it. */
static void errors(void)
{
	char text[16], template[] = "tmpXXXXXX", *none = "no/such";
	struct iovec part = {text, 6};
	int fd, pipes[2], status;
	FILE *stream;
#define TRY(call) (errno = 77, (void)!(call), dprintf(1, "%-40.40s %d\n", #call, errno))
	TRY(fd = open("a", O_RDWR));
	TRY(read(fd, text, 6));
	TRY(pread(fd, text, 6, 0));
	TRY(readv(fd, &part, 1));
	TRY(preadv(fd, &part, 1, 0));
	TRY(write(fd, text, 6));
	TRY(pwrite(fd, text, 6, 0));
	TRY(writev(fd, &part, 1));
	TRY(ftruncate(fd, 6));
	TRY(posix_fallocate(fd, 0, 6));
	TRY(dup(fd));
	TRY(dup2(fd, 900));
	TRY(dup3(fd, 901, 0));
	TRY(fcntl(fd, F_DUPFD, 902));
	TRY(mmap(NULL, 6, PROT_READ, MAP_PRIVATE, fd, 0));
	TRY(close(fd));
	TRY(open(none, O_RDONLY));
	TRY(open(none, O_WRONLY | O_CREAT, 0600));
	TRY(openat(99, "a", O_RDONLY));
	TRY(openat(AT_FDCWD, "made", O_WRONLY | O_CREAT, 0600));
	TRY(creat("made", 0600));
	TRY(read(99, text, 6));
	TRY(read(1, NULL, 0));
	TRY(write(99, text, 6));
	TRY(close(99));
	TRY(dup(99));
	TRY(dup2(99, 98));
	TRY(fcntl(99, F_DUPFD, 0));
	TRY(mmap(NULL, 0, PROT_READ, MAP_PRIVATE, 99, 0));
	TRY(mkstemp(template));
	TRY(mkstemp(none));
	TRY(stream = fopen("a", "r+"));
	TRY(fgets(text, 16, stream));
	TRY(fread(text, 1, 16, stream));
	TRY(fgetc(stream));
	TRY(fseek(stream, 0, SEEK_SET));
	TRY(fputs("alpha\n", stream));
	TRY(fprintf(stream, "%s", "alpha\n"));
	TRY(fflush(stream));
	TRY(fclose(stream));
	TRY(fopen(none, "r"));
	TRY(fopen(none, "w"));
	TRY(pipe(pipes));
	TRY(write(pipes[1], text, 3));
	TRY(read(pipes[0], text, 3));
	TRY(sendfile(pipes[1], fd = open("a", O_RDONLY), NULL, 6));
	TRY(sendfile(pipes[0], 99, NULL, 6));
	TRY(splice(pipes[0], NULL, pipes[1], NULL, 0, 0));
	TRY(copy_file_range(99, NULL, 98, NULL, 1, 0));
	TRY(rename("made", "made2"));
	TRY(rename(none, "made"));
	TRY(link("made2", "made"));
	TRY(link(none, "made"));
	TRY(unlink("made2"));
	TRY(unlink(none));
	TRY(symlink("a", "s"));
	TRY(symlink("a", "s"));
	TRY(mkdir("d", 0700));
	TRY(mkdir("d", 0700));
	TRY(chdir("d"));
	TRY(chdir(none));
	TRY(chdir(".."));
	TRY(rmdir("d"));
	TRY(rmdir("d"));
	TRY(truncate("made", 0));
	TRY(truncate(none, 0));
	TRY(execv(none, (char *[]){none, NULL}));
	TRY(execve(none, (char *[]){none, NULL}, (char *[]){NULL}));
	TRY(execvp("no-such", (char *[]){none, NULL}));
	TRY(execl(none, none, NULL));
	TRY(execlp("no-such", none, NULL));
	TRY(execle(none, none, NULL, environ));
	TRY(posix_spawn(&status, none, NULL, NULL, (char *[]){none, NULL}, (char *[]){NULL}));
	TRY(waitpid(-1, &status, 0));
	if ((fd = fork()) == 0)
		_exit(3);
	TRY(waitpid(fd, &status, 0));
	TRY(dlopen("no-such.so", RTLD_NOW));
	TRY(close_range(400, 400, 0));
}

/* Each closed one of its own is in nobody's way; what the parent says of itself after it is true. */
static void vforks(void)
{
	int out = open("made", O_WRONLY | O_CREAT | O_TRUNC, 0600), in = open("a", O_RDONLY), pid = vfork();
	if (!pid) {
		dup2(out, 1);
		close(in);
		close(out);
		execl(self, self, "open-quiet", NULL);
		_exit(127);
	}
	ended(pid);
	if (!(pid = vfork())) {
		execl("./no-such", "no-such", NULL);
		_exit(127);
	}
	ended(pid);
	check(!mkdir("d", 0700), "mkdir");
	if (!(pid = vfork()))
		_exit(chdir("d"));
	ended(pid);
	read_all(in);
	close(out);
	out = open("after", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	check(write(out, "delta\n", 6) == 6, "write");
	close(out);
}

static int is(const char *name, const char *wanted)
{
	return !strcmp(name, wanted);
}

int main(int count, char **arguments)
{
	const char *name = count > 1 ? arguments[1] : "";
	char *again[] = {arguments[0], "open-quiet", NULL}, *none[] = {NULL};
	pthread_t thread;
	int fd, pid;
	self = arguments[0];
	other = count > 2 ? arguments[2] : "";
	if (is(name, "open-quiet")) {
		look();
		return 0;
	} else if (is(name, "clean")) {
		/* The rest is a command, which begins without the descriptors that this program was given. */
		closefrom(3);
		execv(other, arguments + 2);
		return 8;
	} else if (is(name, "variables")) {
		for (char **each = environ; *each; each++)
			puts(*each);
		return 0;
	} else if (is(name, "untouched")) {
		char line[16];
		while (fgets(line, sizeof line, stdin))
			fputs(line, stdout);
		fputs("to stderr\n", stderr);
		look();
	} else if (is(name, "open")) {
		look();
	} else if (is(name, "fopen")) {
		char line[16];
		FILE *stream = fopen("a", "r"), *to = fopen("made", "w");
		check(stream && to && fgets(line, sizeof line, stream), "fopen");
		fputs(line, to);
		fclose(stream);
		fclose(to);
	} else if (is(name, "openat-here")) {
		read_all(openat(AT_FDCWD, "a", O_RDONLY));
	} else if (is(name, "openat")) {
		mkdir("d", 0700);
		fd = open("d", O_RDONLY | O_DIRECTORY);
		check(!rename("a", "d/a"), "rename");
		read_all(openat(fd, "a", O_RDONLY));
		check(!renameat(fd, "a", AT_FDCWD, "a"), "renameat");
		close(fd);
	} else if (is(name, "freopen")) {
		char line[16];
		check(freopen("a", "r", stdin) == stdin && fgets(line, sizeof line, stdin), "freopen");
		fputs(line, stdout);
	} else if (is(name, "raw-openat")) {
		char text[16];
		fd = syscall(SYS_openat, AT_FDCWD, "a", O_RDONLY);
		check(fd >= 0 && syscall(SYS_read, fd, text, 16) == 6, "openat");
		syscall(SYS_close, fd);
	} else if (is(name, "inline-openat")) {
		char text[16];
		fd = inline_call(SYS_openat, AT_FDCWD, (long)"a", O_RDONLY);
		check(fd >= 0 && inline_call(SYS_read, fd, (long)text, 16) == 6, "openat");
		inline_call(SYS_close, fd, 0, 0);
	} else if (is(name, "raw-openat2")) {
		struct open_how how = {0};
		read_all(syscall(SYS_openat2, AT_FDCWD, "a", &how, sizeof how));
	} else if (is(name, "pthread")) {
		pthread_create(&thread, NULL, looks, NULL);
		pthread_join(thread, NULL);
	} else if (is(name, "small-stack")) {
		pthread_attr_t small;
		pthread_attr_init(&small);
		check(!pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN), "stack");
		check(!pthread_create(&thread, &small, looks, NULL), "thread");
		pthread_join(thread, NULL);
	} else if (is(name, "detached")) {
		descriptors(); /* while nobody has the file open */
		pthread_create(&thread, NULL, looks, NULL);
		pthread_detach(thread);
		pthread_exit(NULL);
	} else if (is(name, "300-threads")) {
		many_threads();
	} else if (is(name, "cancel")) {
		cancel();
	} else if (is(name, "fork-exit")) {
		if (!(pid = fork())) {
			look();
			exit(3);
		}
		ended(pid);
	} else if (is(name, "fork-_exit")) {
		if (!(pid = fork())) {
			look();
			_exit(3);
		}
		ended(pid);
	} else if (is(name, "fork-kill")) {
		int pipes[2];
		char byte;
		check(!pipe(pipes), "pipe");
		if (!(pid = fork())) {
			look();
			check(write(pipes[1], "x", 1) == 1, "write");
			pause();
		}
		check(read(pipes[0], &byte, 1) == 1 && !kill(pid, SIGKILL), "kill");
		ended(pid);
	} else if (is(name, "waitid")) {
		siginfo_t told;
		if (!(pid = fork())) {
			look();
			raise(SIGKILL);
		}
		check(!waitid(P_PID, pid, &told, WEXITED), "waitid");
		dprintf(1, "%d %d\n", told.si_code, told.si_status);
	} else if (is(name, "fork-gap")) {
		mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (!(pid = fork())) {
			mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
			look();
			_exit(3);
		}
		ended(pid);
	} else if (is(name, "raw-fork")) {
		if (!(pid = syscall(SYS_fork))) {
			look();
			_exit(3);
		}
		ended(pid);
	} else if (is(name, "_Fork")) {
		if (!(pid = _Fork ? _Fork() : fork())) {
			look();
			_exit(3);
		}
		ended(pid);
	} else if (is(name, "forkpty")) {
		int terminal;
		if (!(pid = forkpty(&terminal, NULL, NULL, NULL))) {
			look();
			_exit(3);
		}
		ended(pid);
		close(terminal);
	} else if (is(name, "clone-fork")) {
		static char stack[1 << 16];
		pid = clone(looks_and_ends, stack + sizeof stack, SIGCHLD, NULL);
		ended(pid);
	} else if (is(name, "daemon")) {
		int pipes[2];
		char byte;
		check(!pipe(pipes), "pipe");
		if ((pid = fork())) {
			close(pipes[1]);
			check(read(pipes[0], &byte, 1) == 0, "read");
			ended(pid);
		} else {
			/* The child of this child has the end of the pipe, until it ends. */
			check(!daemon(1, 1), "daemon");
			look();
			_exit(3);
		}
	} else if (is(name, "vfork-exec")) {
		vforks();
	} else if (is(name, "posix_spawn")) {
		check(!posix_spawn(&pid, self, NULL, NULL, again, environ), "spawn");
		ended(pid);
	} else if (is(name, "posix_spawn-empty")) {
		check(!posix_spawn(&pid, self, NULL, NULL, again, none), "spawn");
		ended(pid);
	} else if (is(name, "system")) {
		dprintf(1, "%x\n", system("read line < a; echo $line > made"));
	} else if (is(name, "system-cleared")) {
		clearenv();
		dprintf(1, "%x\n", system("read line < a; echo $line > made"));
	} else if (is(name, "popen")) {
		char line[16];
		FILE *stream = popen("cat a", "r");
		check(stream && fgets(line, sizeof line, stream), "popen");
		dprintf(1, "%s%x\n", line, pclose(stream));
	} else if (is(name, "clone-exec")) {
		char *stack = malloc(1 << 16);
		pid = clone(reads_in_clone, stack + (1 << 16), CLONE_VM | CLONE_VFORK | SIGCHLD, again);
		ended(pid);
		free(stack);
	} else if (is(name, "execve-empty")) {
		descriptors();
		execve(self, again, none);
	} else if (is(name, "execve-null")) {
		descriptors();
		execve(self, again, NULL);
	} else if (is(name, "execve-foreign")) {
		char *variables[] = {arguments[0], "variables", NULL};
		char preload[4096];
		snprintf(preload, sizeof preload, "LD_PRELOAD=%s", other);
		execve(self, variables, (char *[]){preload, "A=1", NULL});
	} else if (is(name, "execv-cleared")) {
		descriptors();
		clearenv();
		execv(self, again);
	} else if (is(name, "execvp-cleared")) {
		descriptors();
		environ = none;
		execvp(self, again);
	} else if (is(name, "execl-cleared")) {
		descriptors();
		environ = none;
		execl(self, self, "open-quiet", "3", "4", "5", "6", "7", "8", "9", NULL);
	} else if (is(name, "execlp-cleared")) {
		descriptors();
		environ = none;
		execlp(self, self, "open-quiet", NULL);
	} else if (is(name, "execle")) {
		descriptors();
		execle(self, self, "open-quiet", "3", "4", "5", "6", "7", "8", "9", NULL, none);
	} else if (is(name, "execvpe")) {
		descriptors();
		execvpe(self, again, none);
	} else if (is(name, "fexecve")) {
		descriptors();
		fexecve(open(self, O_RDONLY | O_CLOEXEC), again, none);
	} else if (is(name, "execveat")) {
		descriptors();
		execveat(AT_FDCWD, self, again, none, 0);
	} else if (is(name, "exec-many")) {
		static char *many[1200];
		for (int i = 0; i < 900; i++)
			many[i] = "A=1";
		descriptors();
		execve(self, again, many);
	} else if (is(name, "exec-fails")) {
		check(execve("./no-such", again, none) == -1 && errno == ENOENT, "execve");
		look();
	} else if (is(name, "raw-execve")) {
		descriptors();
		syscall(SYS_execve, self, again, environ);
	} else if (is(name, "raw-execve-empty")) {
		if (!(pid = fork())) {
			syscall(SYS_execve, self, again, none);
			_exit(127);
		}
		ended(pid);
	} else if (is(name, "other")) {
		/* Another program, that the library cannot be in. */
		if (!(pid = fork())) {
			execl(other, other, "open-quiet", NULL);
			_exit(127);
		}
		ended(pid);
	} else if (is(name, "close_range")) {
		syscall(SYS_close_range, 3, ~0U, 0);
		close_range(3, ~0U, 0);
		look();
	} else if (is(name, "closefrom")) {
		closefrom(3);
		look();
	} else if (is(name, "mmap")) {
		fd = open("a", O_RDONLY);
		char *text = mmap(NULL, 6, PROT_READ, MAP_PRIVATE, fd, 0);
		check(text != MAP_FAILED, "mmap");
		dprintf(1, "%.6s", text);
		close(fd);
	} else if (is(name, "sendfile")) {
		int out = open("made", O_WRONLY | O_CREAT | O_TRUNC, 0600);
		fd = open("a", O_RDONLY);
		check(sendfile(out, fd, NULL, 6) == 6, "sendfile");
		close(fd);
		close(out);
	} else if (is(name, "dlopen") || is(name, "dlmopen")) {
		void *library = is(name, "dlopen") ? dlopen(other, RTLD_NOW) : dlmopen(LM_ID_NEWLM, other, RTLD_NOW);
		check(library != NULL, "dlopen");
		int (*opens)(void) = (int (*)(void))dlsym(library, "look");
		dprintf(1, "%d\n", opens());
	} else if (is(name, "_exit")) {
		look();
		descriptors();
		_exit(4);
	} else if (is(name, "raw-exit")) {
		look();
		descriptors();
		syscall(SYS_exit_group, 4);
	} else if (is(name, "abort")) {
		look();
		descriptors();
		abort();
	} else if (is(name, "kill")) {
		look();
		descriptors();
		kill(getpid(), SIGKILL);
		pause();
	} else if (is(name, "io_uring")) {
		io_uring();
	} else if (is(name, "prctl-sandbox") || is(name, "sandbox")) {
		look();
		sandbox(is(name, "prctl-sandbox"));
		fd = open("made", O_WRONLY | O_CREAT | O_TRUNC, 0600);
		check(write(fd, "delta\n", 6) == 6, "write");
		close(fd);
		look();
	} else if (is(name, "errno")) {
		errors();
	} else if (is(name, "signals")) {
		signals();
	} else if (is(name, "many-opens")) {
		for (int i = 0; i < 70000; i++) {
			fd = open("a", O_RDONLY);
			check(fd >= 0 && !close(fd), "open");
		}
		look();
	} else if (is(name, "many-reads")) {
		for (int i = 0; i < 600000; i++)
			look();
	} else if (is(name, "many-chdir")) {
		mkdir("d", 0700);
		for (int i = 0; i < 1000; i++)
			check(!chdir("d") && !chdir(".."), "chdir");
		look();
	} else {
		return 8;
	}
	descriptors();
	return 0;
}
#endif
