//! `libflowcept.so`: the only code that runs inside other people's processes.
//!
//! What it promises there: it calls exactly the function that the program called, once, and then observes; it never exits,
//! aborts, waits, prints or allocates; it works by raw system calls, so that errno and its own hooks are untouched; it keeps
//! no descriptor. Its records go to a [`segment`] file, which needs nobody to read it. It does not know what they mean.
#![no_std]
#![expect(unsafe_code, reason = "symbols of C, raw system calls and memory shared with a file")]

mod raw;
mod real;
mod segment;
mod control;
mod identity;
mod descriptors;
mod lifecycle;
mod place;
mod environment;
mod inherit;
mod hooks;

// core was compiled to unwind and names this; nothing here unwinds. Hidden, or other people's Rust would find it.
core::arch::global_asm!(".hidden rust_eh_personality", ".globl rust_eh_personality", "rust_eh_personality: ud2");

/// AddressSanitizer asks for its options. It ends a program in which another library comes before its own; but what is called
/// here is the next definition, and that is its own.
#[unsafe(no_mangle)]
extern "C" fn __asan_default_options() -> *const core::ffi::c_char {
    c"verify_asan_link_order=0".as_ptr()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics; were it so, the program would not be the one to pay: this thread waits for ever.
    loop {
        raw::pause();
    }
}
