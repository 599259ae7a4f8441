# Builds Lua from its sources, in one folder, with the rules of Lua's own src/Makefile. The crate that brings the sources
# brings no Makefile and no lua.c; the `lua.c` here is ours.
CC = gcc
CFLAGS = -O2 -Wall -DLUA_USE_LINUX
AR = ar rc
RANLIB = ranlib

OBJECTS = $(patsubst %.c,%.o,$(filter-out lua.c,$(wildcard *.c)))
HEADERS = $(wildcard *.h)

lua: lua.o liblua.a
	$(CC) -o $@ -Wl,-E $^ -lm -ldl

liblua.a: $(OBJECTS)
	$(AR) $@ $^
	$(RANLIB) $@

%.o: %.c $(HEADERS)
	$(CC) $(CFLAGS) -c -o $@ $<
