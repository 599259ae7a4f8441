//! exec(3) and posix_spawn(3): what they start keeps the library, and is told where it is. A function that takes an environment
//! stands for the one that does not: the C library's own do nothing else.

use core::ffi::{c_char, c_int, c_void};

use crate::environment::Strings;
use crate::inherit::{kept, lacks, with_words};
use crate::lifecycle::{execing, not_execed, started, started_without, starting};
use crate::place::{word_of_child, word_of_next};

unsafe extern "C" {
    static environ: Strings;
}

fn here() -> Strings {
    // SAFETY: environ(7); the program changes it as it likes.
    unsafe { environ }
}

/// A function that begins another image, or returns because it could not.
macro_rules! execs {
    ($($symbol:ident ($($before:ident: $type:ty),*) $asked:ident $(, $flags:ident)?;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $symbol($($before: $type,)* environment: Strings $(, $flags: c_int)?) -> c_int {
            type Function = unsafe extern "C" fn($($type,)* Strings $(, execs!(@flags $flags))?) -> c_int;
            // SAFETY: the next definition of this symbol has this symbol's type.
            let real = unsafe { core::mem::transmute::<*mut c_void, Function>(next!($symbol)) };
            let begun = execing($asked);
            // SAFETY: the caller keeps to the function's contract; the environment lasts as long as the call.
            let made = kept(environment, word_of_next(), &mut |environment| unsafe {
                real($($before,)* environment $(, $flags)?)
            });
            not_execed(begun, $asked);
            made
        }
    )*};
    (@flags $flags:ident) => { c_int };
}

/// Bytes of a name that nobody has given.
const NAMELESS: *const c_char = c"".as_ptr();

execs! {
    execve(name: *const c_char, arguments: Strings) name;
    execvpe(name: *const c_char, arguments: Strings) name;
    fexecve(fd: c_int, arguments: Strings) NAMELESS;
    execveat(directory: c_int, name: *const c_char, arguments: Strings) name, flags;
}

/// The same functions without an environment, which is that of the process.
macro_rules! execs_here {
    ($($symbol:ident as $other:ident;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $symbol(name: *const c_char, arguments: Strings) -> c_int {
            if word_of_next().is_some() || lacks(here()) {
                // SAFETY: as the caller's call.
                return unsafe { $other(name, arguments, here()) };
            }
            type Function = unsafe extern "C" fn(*const c_char, Strings) -> c_int;
            // SAFETY: the next definition of this symbol has this symbol's type.
            let real = unsafe { core::mem::transmute::<*mut c_void, Function>(next!($symbol)) };
            let begun = execing(name);
            // SAFETY: the caller keeps to the function's contract.
            let made = unsafe { real(name, arguments) };
            not_execed(begun, name);
            made
        }
    )*};
}

execs_here! {
    execv as execve;
    execvp as execvpe;
}

/// Arguments of a function that takes any number: six in registers, which the hook has laid side by side, the others above
/// its return address.
struct Arguments {
    registers: Strings,
    stack: Strings,
}

impl Arguments {
    fn at(&self, i: usize) -> *const c_char {
        // SAFETY: asked for up to the null pointer only, or the one behind it where the function has one there.
        unsafe { if i < 6 { *self.registers.add(i) } else { *self.stack.add(i - 6) } }
    }

    /// Calls `exec` with the name, the arguments as an array, and where they end.
    fn call(&self, exec: &mut dyn FnMut(*const c_char, Strings, usize) -> c_int) -> c_int {
        let end = (1..).find(|i| self.at(*i).is_null()).unwrap_or(1);
        with_words(end, &mut |room| {
            if room.len() < end {
                return -1; // No memory for more arguments than anybody has.
            }
            room.iter_mut().take(end).enumerate().for_each(|(i, word)| *word = self.at(i + 1));
            exec(self.at(0), room.as_ptr(), end)
        })
    }
}

macro_rules! execs_of_list {
    ($($symbol:ident $exec:ident;)*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn $symbol() {
            core::arch::naked_asm!(
                "push r9", "push r8", "push rcx", "push rdx", "push rsi", "push rdi",
                "mov rdi, rsp", "lea rsi, [rsp+56]",
                "sub rsp, 8",
                "call {exec}",
                "add rsp, 56",
                "ret",
                exec = sym $exec,
            )
        }
    )*};
}

execs_of_list! {
    execl of_path;
    execlp of_name;
    execle of_path_with_environment;
}

extern "C" fn of_path(registers: Strings, stack: Strings) -> c_int {
    // SAFETY: as the caller's call.
    Arguments { registers, stack }.call(&mut |name, list, _| unsafe { execv(name, list) })
}

extern "C" fn of_name(registers: Strings, stack: Strings) -> c_int {
    // SAFETY: as the caller's call.
    Arguments { registers, stack }.call(&mut |name, list, _| unsafe { execvp(name, list) })
}

extern "C" fn of_path_with_environment(registers: Strings, stack: Strings) -> c_int {
    let arguments = Arguments { registers, stack };
    // SAFETY: as the caller's call; the environment follows the null pointer.
    arguments.call(&mut |name, list, end| unsafe { execve(name, list, arguments.at(end + 1).cast()) })
}

macro_rules! spawns {
    ($($symbol:ident)+) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $symbol(
            pid: *mut c_int,
            name: *const c_char,
            actions: *const c_void,
            attributes: *const c_void,
            arguments: Strings,
            environment: Strings,
        ) -> c_int {
            type Function = unsafe extern "C" fn(
                *mut c_int, *const c_char, *const c_void, *const c_void, Strings, Strings,
            ) -> c_int;
            // SAFETY: the next definition of this symbol has this symbol's type.
            let real = unsafe { core::mem::transmute::<*mut c_void, Function>(next!($symbol)) };
            let begun = starting();
            let made = kept(environment, word_of_child(begun), &mut |environment| {
                // SAFETY: the caller keeps to the function's contract; the environment lasts as long as the call.
                unsafe { real(pid, name, actions, attributes, arguments, environment) }
            });
            if made == 0 && !pid.is_null() {
                // SAFETY: posix_spawn(3) has put the child's pid there.
                started(unsafe { *pid }, begun);
            }
            made
        }
    )+};
}

spawns! { posix_spawn posix_spawnp }

hooks! {
    [system] (command: *const c_char) -> c_int, starting_shell(), |_, _| ();
    [popen] (command: *const c_char, mode: *const c_char) -> *mut c_void, starting_shell(), |_, _| ();
}

/// The C library starts the shell with the environment of the process, in a way that nobody stands in.
fn starting_shell() {
    if lacks(here()) {
        started_without();
    }
}
