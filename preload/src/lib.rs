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
mod identity;
mod descriptors;
mod lifecycle;
mod environment;
mod hooks;

// core was compiled to unwind and names this; nothing here unwinds. Hidden, or other people's Rust would find it.
core::arch::global_asm!(".hidden rust_eh_personality", ".globl rust_eh_personality", "rust_eh_personality: ud2");

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics; were it so, the program would not be the one to pay: this thread waits for ever.
    loop {
        raw::pause();
    }
}
