//! The symbols that are interposed, one file a family. A hook calls the function that the program called, once, with what it
//! was given, and hands the result on; the logic is elsewhere.

use core::ffi::c_void;

use crate::real::Stub;

/// A symbol's name.
macro_rules! name {
    ($symbol:ident) => {{
        const NAME: &core::ffi::CStr =
            match core::ffi::CStr::from_bytes_with_nul(concat!(stringify!($symbol), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => c"",
            };
        NAME
    }};
}

/// The next definition of a symbol.
macro_rules! next {
    ($symbol:ident) => {{
        static REAL: crate::real::Real = crate::real::Real::new(name!($symbol));
        REAL.get()
    }};
}

/// What a hook does: calls the function, with what its arguments are worth before and behind.
macro_rules! observed {
    ($real:expr, ($($argument:ident: $type:ty),*) -> $result:ty, $first:expr, |$was:pat_param, $made:pat_param| $after:expr) => {{
        type Function = unsafe extern "C" fn($($type),*) -> $result;
        // SAFETY: the next definition of a symbol has that symbol's type.
        let real = unsafe { core::mem::transmute::<*mut core::ffi::c_void, Function>($real) };
        match $first {
            // SAFETY: the caller keeps to the function's contract.
            $was => match unsafe { real($($argument),*) } {
                made => {
                    match made {
                        $made => $after,
                    };
                    made
                }
            },
        }
    }};
}

/// The register of the argument behind these.
macro_rules! register {
    () => {
        "rdi"
    };
    ($a:ident) => {
        "rsi"
    };
    ($a:ident $b:ident) => {
        "rdx"
    };
    ($a:ident $b:ident $c:ident) => {
        "rcx"
    };
    ($a:ident $b:ident $c:ident $d:ident) => {
        "r8"
    };
    ($a:ident $b:ident $c:ident $d:ident $e:ident) => {
        "r9"
    };
}

/// Defines hooks; symbols in one pair of brackets share arguments, result and logic. What stands behind the result is worked
/// out before the call and handed to the logic behind it, with what the call returned.
///
/// They share the code, too: a symbol is a [`crate::real::Stub`] of two instructions, which says by one more argument which it
/// is.
macro_rules! hooks {
    ($([$($symbol:ident)+] ($($argument:ident: $type:ty),*) -> $result:ty, $first:expr, |$was:pat_param, $made:pat_param| $after:expr;)*) => {$(
        const _: () = {
            unsafe extern "C" fn observe($($argument: $type,)* stub: crate::real::Stub) -> $result {
                observed!(stub.real(), ($($argument: $type),*) -> $result, $first, |$was, $made| $after)
            }
            stubs! { (register!($($argument)*)) observe $($symbol)+ }
        };
    )*};
}

/// Defines symbols, with their own place in a register, that go on at `to`.
macro_rules! stubs {
    (($($register:tt)*) $to:ident) => {};
    (($($register:tt)*) $to:ident $symbol:ident $($more:ident)*) => {
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        #[unsafe(link_section = "hooks")]
        unsafe extern "C" fn $symbol() {
            core::arch::naked_asm!(
                "2:",
                concat!("lea ", $($register)*, ", [rip + 2b]"),
                "jmp {to}",
                ".balign 16",
                to = sym $to
            )
        }
        stubs! { ($($register)*) $to $($more)* }
    };
}

/// The same for functions whose arguments leave no register free, one by one.
macro_rules! full_hooks {
    ($([$symbol:ident] ($($argument:ident: $type:ty),*) -> $result:ty, $first:expr, |$was:pat_param, $made:pat_param| $after:expr;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $symbol($($argument: $type),*) -> $result {
            observed!(next!($symbol), ($($argument: $type),*) -> $result, $first, |$was, $made| $after)
        }
    )*};
}

/// Defines hooks that only note what is about to happen: all registers are kept, and the real function is jumped to, which
/// finds the stack as the program left it.
macro_rules! jumps {
    ($([$($symbol:ident)+] $note:ident;)*) => {$(
        const _: () = {
            #[unsafe(naked)]
            extern "C" fn noting() {
                core::arch::naked_asm!("lea r10, [rip + {note}]", "jmp {jump}", note = sym $note, jump = sym crate::hooks::jump)
            }
            stubs! { ("r11") noting $($symbol)+ }
        };
    )*};
}

/// What [`jumps`] go through, with the [`Stub`] in r11 and the note in r10.
#[unsafe(naked)]
extern "C" fn jump() {
    extern "C" fn find(first: *mut c_void, note: extern "C" fn(*mut c_void), stub: Stub) -> *mut c_void {
        note(first);
        stub.real()
    }
    core::arch::naked_asm!(
        "push rbp", "mov rbp, rsp", "sub rsp, 192",
        "mov [rsp], rdi", "mov [rsp+8], rsi", "mov [rsp+16], rdx", "mov [rsp+24], rcx", "mov [rsp+32], r8",
        "mov [rsp+40], r9", "mov [rsp+48], rax",
        "movaps [rsp+64], xmm0", "movaps [rsp+80], xmm1", "movaps [rsp+96], xmm2", "movaps [rsp+112], xmm3",
        "movaps [rsp+128], xmm4", "movaps [rsp+144], xmm5", "movaps [rsp+160], xmm6", "movaps [rsp+176], xmm7",
        "mov rsi, r10", "mov rdx, r11",
        "call {find}",
        "mov r11, rax",
        "mov rdi, [rsp]", "mov rsi, [rsp+8]", "mov rdx, [rsp+16]", "mov rcx, [rsp+24]", "mov r8, [rsp+32]",
        "mov r9, [rsp+40]", "mov rax, [rsp+48]",
        "movaps xmm0, [rsp+64]", "movaps xmm1, [rsp+80]", "movaps xmm2, [rsp+96]", "movaps xmm3, [rsp+112]",
        "movaps xmm4, [rsp+128]", "movaps xmm5, [rsp+144]", "movaps xmm6, [rsp+160]", "movaps xmm7, [rsp+176]",
        "leave",
        "jmp r11",
        find = sym find,
    )
}

mod exec;
mod file;
mod name;
mod process;
pub(crate) mod stream;
