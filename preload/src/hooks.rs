//! The symbols that are interposed, one file a family. A hook calls the function that the program called, once, with what it
//! was given, and hands the result on; the logic is elsewhere.

/// The next definition of a symbol.
macro_rules! next {
    ($symbol:ident) => {{
        const NAME: &core::ffi::CStr =
            match core::ffi::CStr::from_bytes_with_nul(concat!(stringify!($symbol), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => c"",
            };
        static REAL: crate::real::Real = crate::real::Real::new(NAME);
        REAL.get()
    }};
}

/// Defines one hook.
macro_rules! hook {
    ($symbol:ident ($($argument:ident: $type:ty),*) -> $result:ty, $first:expr, |$was:pat_param, $made:pat_param| $after:expr) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $symbol($($argument: $type),*) -> $result {
            type Function = unsafe extern "C" fn($($type),*) -> $result;
            // SAFETY: the next definition of this symbol has this symbol's type.
            let real = unsafe { core::mem::transmute::<*mut core::ffi::c_void, Function>(next!($symbol)) };
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
        }
    };
}

/// Defines hooks; symbols in one pair of brackets share arguments, result and logic. What stands behind the result is worked
/// out before the call and handed to the logic behind it, with what the call returned.
macro_rules! hooks {
    ($([$($symbol:ident)+] $arguments:tt -> $result:ty, $first:expr, |$was:pat_param, $made:pat_param| $after:expr;)*) => {
        $($(hook! { $symbol $arguments -> $result, $first, |$was, $made| $after })+)*
    };
}

mod exec;
mod file;
mod name;
mod process;
pub(crate) mod stream;
