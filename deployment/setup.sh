#!/bin/sh
# Prepares a fresh Debian 12 or Ubuntu 24.04 for building and testing: packages from apt, Rust from rustup.
# Run it as root, or as a user who may use sudo; run again, it changes nothing and says nothing.
set -eu

RUST_MINOR=95 # Rust 1.95, as rust-version in Cargo.toml
PACKAGES="libbpf-dev libelf-dev zlib1g-dev libssl-dev libcurl4-openssl-dev pkg-config gcc g++ cmake make git strace python3 python3-venv rsync zstd bindfs btrfs-progs perl sqlite3 curl ca-certificates jq openssl redis-tools maven systemd logrotate"
# What RabbitMQ's own package wants; that one would start a server for the whole machine, so tests unpack it for themselves.
PACKAGES="$PACKAGES erlang-base erlang-crypto erlang-eldap erlang-inets erlang-mnesia erlang-os-mon erlang-parsetools erlang-public-key erlang-runtime-tools erlang-ssl erlang-syntax-tools erlang-tools erlang-xmerl"

# For Flowcept's web pages, where the distribution has them as packages: Ubuntu has a snap instead, and tests do without.
BROWSER="chromium chromium-driver"

say() { echo "setup.sh: $*" >&2; }
die() {
    say "$*"
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo: run it as root"
    fi
}

# Rust belongs to the person who builds, also where the whole script runs under sudo.
if [ "$(id -u)" -eq 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
    person=$SUDO_USER
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    as_person() { sudo -H -u "$person" env PATH="$cargo_bin:$PATH" "$@"; }
    cargo_bin=$home/.cargo/bin
else
    home=${HOME:-/root}
    as_person() { "$@"; }
    cargo_bin=${CARGO_HOME:-$home/.cargo}/bin
fi

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
available() { apt-cache show "$1" >/dev/null 2>&1; }
apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@"; }

packages() {
    command -v apt-get >/dev/null 2>&1 ||
        die "no apt-get here; install what these Debian packages hold: clang $PACKAGES"
    missing=
    for package in $PACKAGES; do
        installed "$package" || missing="$missing $package"
    done
    compiler=
    installed clang-19 || installed clang || compiler=clang
    browser=
    for package in $BROWSER; do
        installed "$package" || browser="$browser $package"
    done
    [ -n "$missing$compiler$browser" ] || return 0

    apt update >&2 || die "apt-get update failed: see above"
    for package in $browser; do
        if available "$package"; then
            missing="$missing $package"
        fi
    done
    [ -n "$missing$compiler" ] || return 0
    # The newer compiler where the distribution has it; clang 14, Debian 12's own, works too.
    if [ -n "$compiler" ] && available clang-19; then
        compiler=clang-19
    fi
    say "installing$missing $compiler"
    # Word splitting is wanted: each word is a package.
    # shellcheck disable=SC2086
    apt install -y --no-install-recommends $missing $compiler >&2 || die "apt-get install failed: see above"
}

# new_enough CARGO: is it Rust 1.$RUST_MINOR or later?
new_enough() {
    version=$(as_person "$1" --version 2>/dev/null) || return 1
    version=${version#cargo }
    major=${version%%.*}
    minor=${version#*.}
    minor=${minor%%.*}
    case $major$minor in '' | *[!0-9]*) return 1 ;; esac
    [ "$major" -gt 1 ] || { [ "$major" -eq 1 ] && [ "$minor" -ge "$RUST_MINOR" ]; }
}

# find_cargo: the first of PATH's and rustup's that is new enough, in $cargo.
find_cargo() {
    for cargo in "$(command -v cargo || true)" "$cargo_bin/cargo"; do
        if [ -n "$cargo" ] && new_enough "$cargo"; then
            return 0
        fi
    done
    return 1
}

rust() {
    if ! find_cargo; then
        if as_person test -x "$cargo_bin/rustup"; then
            say "bringing rustup's stable toolchain up to date"
            as_person "$cargo_bin/rustup" -q toolchain install stable --profile minimal -c clippy -c rustfmt >&2 ||
                die "rustup could not install the stable toolchain: see above"
        else
            say "installing Rust into ${cargo_bin%/bin}"
            script=$(mktemp)
            trap 'rm -f "$script"' EXIT
            curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o "$script" ||
                die "https://sh.rustup.rs could not be reached; install Rust 1.$RUST_MINOR or later yourself"
            chmod 644 "$script"
            as_person sh "$script" -y -q --default-toolchain stable --profile minimal -c clippy -c rustfmt >&2 ||
                die "rustup could not install Rust: see above"
        fi
        find_cargo || die "cargo is still older than 1.$RUST_MINOR: make stable the default with \`rustup default stable\`"
    fi
    for component in clippy rustfmt; do
        case $component in rustfmt) tool=fmt ;; *) tool=$component ;; esac
        as_person env PATH="${cargo%/*}:$PATH" cargo "$tool" --version >/dev/null 2>&1 && continue
        say "installing $component"
        as_person env PATH="${cargo%/*}:$PATH" rustup -q component add "$component" >&2 ||
            die "cargo has no $component and rustup could not add it"
    done
    reachable
}

# The shell that called us cannot get a new PATH from us, so cargo must lie where it looks already.
reachable() {
    found=$(command -v cargo || true)
    if [ -n "$found" ] && new_enough "$found"; then
        return 0
    fi
    for name in cargo rustc rustup rustfmt cargo-fmt cargo-clippy clippy-driver rustdoc; do
        link=/usr/local/bin/$name
        if [ -e "$link" ] && [ ! -h "$link" ]; then
            die "$link is another Rust, older than 1.$RUST_MINOR: remove it, or put $cargo_bin first in PATH"
        fi
        as_root ln -sf "${cargo%/*}/$name" "$link"
    done
    say "linked cargo and its tools into /usr/local/bin"
}

packages
rust
