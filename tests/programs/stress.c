/* For so many seconds, in a folder with the file in: a handler opens and writes files a thousand times a second while 300 threads
 * read, some are cancelled, children are forked from among them and others begin by vfork.
 *
 * usage: stress SECONDS
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long handled, looked;
static pid_t own;

static void fail(const char *what)
{
	dprintf(2, "%s: %s\n", what, strerror(errno));
	_exit(9);
}

static void handle(int signal)
{
	int before = errno, fd = open("by-handler", O_WRONLY | O_CREAT | O_APPEND, 0600);
	(void)signal;
	if (fd < 0 || write(fd, "x", 1) != 1 || close(fd))
		fail("in the handler");
	if (getpid() == own)
		handled++;
	errno = before;
}

static void look(void)
{
	char text[16];
	int fd;
	errno = 77;
	fd = open("in", O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof text) != 6 || close(fd) || errno != 77)
		fail("look");
	__atomic_add_fetch(&looked, 1, __ATOMIC_RELAXED);
}

static void *looks(void *nothing)
{
	for (int i = 0; i < 5; i++)
		look();
	return nothing;
}

static int wall[2];
static volatile int cleaned;
static void clean(void *nothing) { (void)nothing; __atomic_add_fetch(&cleaned, 1, __ATOMIC_RELAXED); }
static void *blocks(void *nothing)
{
	char byte;
	pthread_cleanup_push(clean, NULL);
	for (;;)
		if (read(wall[0], &byte, 1) >= 0)
			fail("nobody has written");
	pthread_cleanup_pop(1);
	return nothing;
}

static void await(pid_t pid, int code)
{
	int status;
	while (waitpid(pid, &status, 0) != pid)
		if (errno != EINTR)
			fail("waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != code) {
		dprintf(2, "a child ended with %x\n", status);
		_exit(9);
	}
}

static void round_(void)
{
	static pthread_t threads[300], blocked[10];
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 << 10);
	cleaned = 0;
	for (int i = 0; i < 10; i++)
		if (pthread_create(&blocked[i], &small, blocks, NULL))
			fail("thread");
	for (int i = 0; i < 300; i++) {
		pid_t pid;
		if (pthread_create(&threads[i], &small, looks, NULL))
			fail("thread");
		if (i % 60 == 30) {
			if ((pid = fork()) == 0) {
				look();
				_exit(5);
			}
			await(pid, 5);
		}
		if (i % 60 == 45) {
			if ((pid = vfork()) == 0) {
				execl("/bin/cat", "cat", "in", NULL);
				_exit(9);
			}
			await(pid, 0);
		}
	}
	for (int i = 0; i < 300; i++)
		pthread_join(threads[i], NULL);
	usleep(1000);
	for (int i = 0; i < 10; i++) {
		void *result;
		if (pthread_cancel(blocked[i]) || pthread_join(blocked[i], &result) || result != PTHREAD_CANCELED)
			fail("cancel");
	}
	if (cleaned != 10)
		fail("a cancelled thread has not cleaned up");
	pthread_attr_destroy(&small);
}

int main(int count, char **arguments)
{
	struct sigaction action = { .sa_handler = handle, .sa_flags = SA_RESTART };
	struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
	time_t end = time(NULL) + (count > 1 ? atoi(arguments[1]) : 1);
	unsigned long rounds = 0;
	own = getpid();
	if (pipe(wall))
		fail("pipe");
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	do {
		round_();
		rounds++;
	} while (time(NULL) < end);
	setitimer(ITIMER_REAL, &never, NULL);
	if (handled < rounds)
		fail("the handler has hardly run");
	dprintf(2, "%lu rounds, %lu files read, %lu signals handled\n", rounds, looked, handled);
	return 0;
}
