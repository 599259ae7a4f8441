/* Writes and reads files until somebody ends it. Once around: writes f<i>, reads r<i>, reads ten bytes of `in`, and says so
 * on stdout when all of that has returned. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	char bytes[64], name[16];
	int in = open("in", O_RDONLY);

	for (unsigned i = 0;; i++) {
		int fd;

		snprintf(name, sizeof(name), "f%u", i);
		fd = open(name, O_CREAT | O_WRONLY, 0600);
		if (write(fd, "some bytes\n", 11) != 11)
			return 1;
		close(fd);
		snprintf(name, sizeof(name), "r%u", i % 64);
		fd = open(name, O_RDONLY);
		if (read(fd, bytes, sizeof(bytes)) != 5 || pread(in, bytes, 10, 0) != 10)
			return 1;
		close(fd);
		if (write(1, "\n", 1) != 1)
			return 1;
		usleep(50);
	}
}
