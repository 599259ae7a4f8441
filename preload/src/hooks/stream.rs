//! fopen(3) and what moves bytes through streams. Their own reads and writes of the descriptor cannot be seen: what is seen
//! is that the program read from or wrote to the stream.

use core::ffi::{c_char, c_int, c_void};

use flowcept_wire::file::{READ, WRITE};

use crate::descriptors::{before, closing, moved, opened};
use crate::lifecycle::boot_clock;
use crate::raw::HERE;

type Stream = *mut c_void;

unsafe extern "C" {
    fn fileno(stream: Stream) -> c_int;
    fn __fpending(stream: Stream) -> usize;
    static stdin: Stream;
    static stdout: Stream;
}

/// The flags of open(2) that a mode of fopen(3) stands for.
fn flags(mode: *const c_char) -> c_int {
    let mode = crate::descriptors::bytes(mode);
    let both = mode.contains(&b'+');
    let exclusive = if mode.contains(&b'x') { 0o200 } else { 0 };
    match mode.first() {
        Some(b'w') => 0o1100 | exclusive | if both { 2 } else { 1 },
        Some(b'a') => 0o2100 | exclusive | if both { 2 } else { 1 },
        _ => {
            if both {
                2
            } else {
                0
            }
        }
    }
}

fn of(stream: Stream) -> c_int {
    // SAFETY: the program has a stream.
    if stream.is_null() { -1 } else { unsafe { fileno(stream) } }
}

fn input() -> Stream {
    // SAFETY: the C library's own variable.
    unsafe { stdin }
}

fn output() -> Stream {
    // SAFETY: the C library's own variable.
    unsafe { stdout }
}

fn opened_stream(stream: Stream, name: *const c_char, mode: *const c_char, was: u64) {
    if !stream.is_null() && !name.is_null() {
        opened(of(stream), HERE, name, flags(mode), was);
    }
}

fn read(stream: Stream, bytes: isize) {
    // A read that found the end is one that found nothing: emptiness is content too.
    moved(of(stream), READ, bytes.max(0), 0);
}

fn wrote(stream: Stream, bytes: isize, was: u64) {
    moved(of(stream), WRITE, bytes, was);
}

/// What waits in a stream is about to be written: putc(3) is often expanded in place, and nobody sees it.
pub(crate) fn flushing(stream: Stream) {
    let stream = if stream.is_null() { output() } else { stream };
    // SAFETY: the program has the stream.
    let waiting = if stream.is_null() { 0 } else { unsafe { __fpending(stream) } };
    if waiting > 0 {
        wrote(stream, 1, boot_clock());
    }
}

hooks! {
    [fopen fopen64] (name: *const c_char, mode: *const c_char) -> Stream,
        before(flags(mode)), |was, made| opened_stream(made, name, mode, was);
    [freopen freopen64] (name: *const c_char, mode: *const c_char, stream: Stream) -> Stream,
        { closing(of(stream)); before(flags(mode)) }, |was, made| opened_stream(made, name, mode, was);
    [fclose] (stream: Stream) -> c_int, { flushing(stream); closing(of(stream)) }, |_, _| ();
    [fflush fflush_unlocked] (stream: Stream) -> c_int, flushing(stream), |_, _| ();

    [fread fread_unlocked] (into: *mut c_void, size: usize, count: usize, stream: Stream) -> usize,
        (), |_, made| read(stream, (made * size) as isize);
    [__fread_chk __fread_unlocked_chk] (into: *mut c_void, room: usize, size: usize, count: usize, stream: Stream) -> usize,
        (), |_, made| read(stream, (made * size) as isize);
    [fgets fgets_unlocked] (into: *mut c_char, count: c_int, stream: Stream) -> *mut c_char,
        (), |_, made| read(stream, length(made));
    [__fgets_chk __fgets_unlocked_chk] (into: *mut c_char, room: usize, count: c_int, stream: Stream) -> *mut c_char,
        (), |_, made| read(stream, length(made));
    [fgetc getc _IO_getc fgetc_unlocked getc_unlocked __uflow __underflow] (stream: Stream) -> c_int,
        (), |_, made| read(stream, isize::from(made >= 0));
    [getchar getchar_unlocked] () -> c_int, (), |_, made| read(input(), isize::from(made >= 0));
    [getline] (line: *mut *mut c_char, room: *mut usize, stream: Stream) -> isize, (), |_, made| read(stream, made);
    [getdelim __getdelim] (line: *mut *mut c_char, room: *mut usize, end: c_int, stream: Stream) -> isize,
        (), |_, made| read(stream, made);

    [fwrite fwrite_unlocked] (from: *const c_void, size: usize, count: usize, stream: Stream) -> usize,
        boot_clock(), |was, made| wrote(stream, (made * size) as isize, was);
    [fputs fputs_unlocked] (text: *const c_char, stream: Stream) -> c_int,
        boot_clock(), |was, made| if made >= 0 { wrote(stream, length(text), was) };
    [puts] (text: *const c_char) -> c_int, boot_clock(), |was, made| if made >= 0 { wrote(output(), length(text) + 1, was) };
    [fputc putc _IO_putc fputc_unlocked putc_unlocked] (character: c_int, stream: Stream) -> c_int,
        boot_clock(), |was, made| if made >= 0 { wrote(stream, 1, was) };
    [__overflow] (stream: Stream, character: c_int) -> c_int,
        boot_clock(), |was, made| if made >= 0 { wrote(stream, 1, was) };
    [putchar putchar_unlocked] (character: c_int) -> c_int,
        boot_clock(), |was, made| if made >= 0 { wrote(output(), 1, was) };
    [vfprintf] (stream: Stream, format: *const c_char, list: *mut c_void) -> c_int,
        boot_clock(), |was, made| wrote(stream, made as isize, was);
    [__vfprintf_chk] (stream: Stream, flag: c_int, format: *const c_char, list: *mut c_void) -> c_int,
        boot_clock(), |was, made| wrote(stream, made as isize, was);
    [vprintf] (format: *const c_char, list: *mut c_void) -> c_int,
        boot_clock(), |was, made| wrote(output(), made as isize, was);
    [__vprintf_chk] (flag: c_int, format: *const c_char, list: *mut c_void) -> c_int,
        boot_clock(), |was, made| wrote(output(), made as isize, was);
}

fn length(text: *const c_char) -> isize {
    crate::descriptors::bytes(text).len() as isize
}

// printf(3) and its like take a list of arguments of unknown length: nobody can call them with what they were given.
jumps! {
    [printf __printf_chk] to_output;
    [fprintf __fprintf_chk] to_stream;
    [dprintf __dprintf_chk] to_descriptor;
    [scanf __isoc99_scanf __isoc23_scanf] from_input;
    [fscanf __isoc99_fscanf __isoc23_fscanf] from_stream;
}

/// How much is not known before: one byte stands for it.
extern "C" fn to_stream(stream: Stream) {
    wrote(stream, 1, boot_clock());
}

extern "C" fn to_output(_: Stream) {
    to_stream(output());
}

extern "C" fn to_descriptor(fd: Stream) {
    moved(fd as usize as c_int, WRITE, 1, boot_clock());
}

extern "C" fn from_stream(stream: Stream) {
    read(stream, 0);
}

extern "C" fn from_input(_: Stream) {
    read(input(), 0);
}
