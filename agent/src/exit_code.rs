//! Every exit code of `flowcept` with its meaning. `flowcept run` returns the command's own instead.

/// (code, meaning), as the help prints them.
pub const TABLE: &[(u8, &str)] = &[
    (0, "done"),
    (1, "the question has no answer, or something failed; stderr says what"),
    (2, "the command line was not understood"),
    (126, "run: the command was found and could not be executed"),
    (127, "run: the command was not found"),
];

/// As in [`TABLE`].
pub const FAILED: u8 = 1;
/// As in [`TABLE`].
pub const NOT_EXECUTABLE: u8 = 126;
/// As in [`TABLE`].
pub const NOT_FOUND: u8 = 127;
