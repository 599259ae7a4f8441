//! fork(2), vfork(2), clone(2), wait(2), _exit(2) and their families.

use core::ffi::{c_int, c_void};

use flowcept_wire::gap;

use crate::descriptors::unseen;
use crate::lifecycle::{borrowing, exiting, lent, more_loaded, sandboxed, segment, started, starting, waited};
use crate::place::moved;
use crate::real::failed;
use crate::segment::unseen_fork;

hooks! {
    [fork _Fork] () -> c_int, starting(), |was, made| started(made, was);
    [wait] (status: *mut c_int) -> c_int, (), |_, made| told(made, status);
    [waitpid __waitpid] (pid: c_int, status: *mut c_int, options: c_int) -> c_int, (), |_, made| told(made, status);
    [wait3] (status: *mut c_int, options: c_int, usage: *mut c_void) -> c_int, (), |_, made| told(made, status);
    [wait4] (pid: c_int, status: *mut c_int, options: c_int, usage: *mut c_void) -> c_int,
        (), |_, made| told(made, status);
    [waitid] (kind: c_int, id: u32, told: *mut c_int, options: c_int) -> c_int,
        (), |_, made| if made == 0 { told_by_code(told) };
    [_exit _Exit quick_exit] (status: c_int) -> (), exiting(status), |_, _| ();
    [unshare] (flags: c_int) -> c_int, (), |_, made| if made == 0 { moved() };
    [setns] (fd: c_int, kind: c_int) -> c_int, (), |_, made| if made == 0 { moved() };
    // What was loaded is told while it is there.
    [dlclose] (handle: *mut c_void) -> c_int, segment(), |_, _| ();
}

full_hooks! {
    // What was not given is on the stack too, and nobody looks at it.
    [clone] (
        function: *mut c_void,
        stack: *mut c_void,
        flags: c_int,
        argument: *mut c_void,
        parent: *mut c_int,
        tls: *mut c_void,
        child: *mut c_int
    ) -> c_int, cloning(flags), |was, made| cloned(flags, made, was);
}

// Where dlopen(3) looks depends on who calls it, by the address that it returns to (DT_RUNPATH, $ORIGIN).
jumps! {
    [dlopen dlmopen] loads;
}

// Of these the first argument is looked at only.
jumps! {
    [syscall] calling;
    [prctl] controlling;
}

extern "C" fn loads(_: *mut c_void) {
    more_loaded();
}

/// The child that `siginfo_t` of waitid(2) tells of.
fn told_by_code(told: *const c_int) {
    // Words of the struct (sigaction(2)): si_code, si_pid, si_status.
    const WORDS: [usize; 3] = [2, 4, 6];
    const EXITED: c_int = 1;
    const KILLED: c_int = 2;
    const DUMPED: c_int = 3;
    if told.is_null() {
        return;
    }
    // SAFETY: waitid(2) has filled it.
    let [code, pid, status] = WORDS.map(|word| unsafe { *told.add(word) });
    match code {
        EXITED => waited(pid, (status & 0xff) << 8),
        KILLED => waited(pid, status),
        DUMPED => waited(pid, status | 0x80),
        _ => {}
    }
}

/// Calls for files, by their numbers (asm/unistd_64.h).
const FOR_FILES: [u16; 33] = [
    0, 1, 2, 9, 17, 18, 19, 20, 40, 76, 77, 82, 85, 86, 87, 88, 257, 263, 264, 265, 266, 275, 276, 278, 285, 295, 296,
    304, 316, 326, 327, 328, 437,
];

/// A call through syscall(2) is about to be made; the C library of others calls seccomp(2) so.
extern "C" fn calling(number: *mut c_void) {
    const CLONE: usize = 56;
    const FORK: usize = 57;
    const IO_SUBMIT: usize = 209;
    const UNSHARE: usize = 272;
    const SETNS: usize = 308;
    const SECCOMP: usize = 317;
    const IO_URING_ENTER: usize = 426;
    const CLONE3: usize = 435;
    let mechanism = match number as usize {
        SECCOMP => return sandboxed(),
        CLONE | FORK | CLONE3 => return unseen_fork(),
        UNSHARE | SETNS => return moved(),
        IO_URING_ENTER => gap::IO_URING,
        IO_SUBMIT => gap::LIBAIO,
        number if FOR_FILES.iter().any(|n| usize::from(*n) == number) => gap::NUMBERED_CALL,
        _ => return,
    };
    segment().iter().for_each(|s| unseen(s, mechanism));
}

/// The same, through prctl(2).
extern "C" fn controlling(option: *mut c_void) {
    const PR_SET_SECCOMP: u32 = 22;
    if option as usize as u32 == PR_SET_SECCOMP {
        sandboxed();
    }
}

const CLONE_VM: c_int = 0x100;
const CLONE_VFORK: c_int = 0x4000;
const CLONE_THREAD: c_int = 0x1_0000;
const CLONE_NEWNS: c_int = 0x2_0000;

fn cloning(flags: c_int) -> u64 {
    if flags & CLONE_NEWNS != 0 {
        moved();
    }
    if flags & (CLONE_VM | CLONE_THREAD) == CLONE_VM {
        borrowing();
    } else if flags & CLONE_VM == 0 {
        unseen_fork();
    }
    starting()
}

fn cloned(flags: c_int, made: c_int, was: u64) {
    // One that is not waited for has the memory for as long as it likes.
    if flags & (CLONE_VM | CLONE_THREAD) == CLONE_VM && (flags & CLONE_VFORK != 0 || made < 0) {
        lent();
    }
    if flags & CLONE_THREAD == 0 {
        started(made, was);
    }
}

/// vfork(2) returns twice on one stack, where the child may overwrite what the parent needs: the return address is kept in a
/// register meanwhile, as the C library does it.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn vfork() {
    extern "C" fn before() -> u64 {
        borrowing();
        starting()
    }
    extern "C" fn after(made: isize, was: u64) -> c_int {
        lent();
        if made < 0 {
            return failed(-made) as c_int;
        }
        started(made as c_int, was);
        made as c_int
    }
    core::arch::naked_asm!(
        "sub rsp, 8", "call {before}", "add rsp, 8",
        "mov rsi, rax",
        "pop rdi",
        "mov eax, 58",
        "syscall",
        "push rdi",
        "test rax, rax",
        "jz 2f",
        "mov rdi, rax",
        "sub rsp, 8", "call {after}", "add rsp, 8",
        "2:",
        "ret",
        before = sym before,
        after = sym after,
    )
}

fn told(pid: c_int, status: *const c_int) {
    if pid > 0 && !status.is_null() {
        // SAFETY: wait(2) has put the status there.
        waited(pid, unsafe { *status });
    }
}
