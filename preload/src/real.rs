//! The next definition of a symbol behind ours, found once in the tables of the loaded objects. It does not call it.
//!
//! Not by dlsym(3): since glibc 2.34 that has a version which older ones do not, and before it lies in a library that most
//! programs do not load. The order and the choice of versions are those of `dlsym(RTLD_NEXT, …)`.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

/// A symbol's next definition.
pub(crate) struct Real {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Real {
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Self { name, found: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Its address.
    pub(crate) fn get(&self) -> *mut c_void {
        let found = self.found.load(Ordering::Relaxed);
        if !found.is_null() {
            return found;
        }
        let found = next(self.name);
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// A hooked symbol by its place in the section of stubs, which the linker bounds by name.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Stub(usize);

// The linker makes it; nobody else's may stand for it.
core::arch::global_asm!(".hidden __start_hooks");

/// Bytes of a stub.
const STUB: usize = 16;
/// What has been found, by stub. What would not fit is looked for each time.
static FOUND: [AtomicPtr<c_void>; 192] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 192];

impl Stub {
    /// The next definition of the same symbol.
    pub(crate) fn real(self) -> *mut c_void {
        unsafe extern "C" {
            #[link_name = "__start_hooks"]
            static FIRST: u8;
        }
        let known = FOUND.get((self.0 - (&raw const FIRST) as usize) / STUB);
        let found = known.map_or(core::ptr::null_mut(), |known| known.load(Ordering::Relaxed));
        if !found.is_null() {
            return found;
        }
        let found = next(self.name());
        known.iter().for_each(|known| known.store(found, Ordering::Relaxed));
        found
    }

    /// Its name in our own table of symbols.
    #[cold]
    fn name(self) -> &'static CStr {
        unsafe extern "C" {
            #[link_name = "_DYNAMIC"]
            static OWN: [usize; 2];
            #[link_name = "__ehdr_start"]
            static BASE: u8;
        }
        let base = (&raw const BASE) as usize;
        // SAFETY: our own section and tables, in which each stub is.
        unsafe {
            let tables = Tables::of(base, &raw const OWN);
            let mut symbol = tables.symbols as *const Symbol;
            while base + (*symbol).value != self.0 {
                symbol = symbol.add(1);
            }
            CStr::from_ptr((tables.text as *const c_char).add((*symbol).name as usize))
        }
    }
}

/// `struct dl_phdr_info` of link.h, as far as it is looked at.
#[repr(C)]
pub(crate) struct Object {
    pub(crate) address: usize,
    pub(crate) name: *const c_char,
    headers: *const ProgramHeader,
    count: u16,
}

/// `Elf64_Phdr` of elf.h.
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: usize,
    address: usize,
    physical: usize,
    file_size: usize,
    memory_size: usize,
    align: usize,
}

/// `Elf64_Sym` of elf.h.
#[repr(C)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: usize,
    size: usize,
}

/// Calls `each` for the loaded objects in their order, until it returns another number than 0.
pub(crate) fn objects<T>(each: extern "C" fn(*const Object, usize, *mut c_void) -> c_int, data: &mut T) {
    unsafe extern "C" {
        fn dl_iterate_phdr(each: extern "C" fn(*const Object, usize, *mut c_void) -> c_int, data: *mut c_void)
        -> c_int;
    }
    // SAFETY: dl_iterate_phdr(3) calls `each` with objects and `data` before it returns.
    unsafe { dl_iterate_phdr(each, (&raw mut *data).cast()) };
}

struct Search {
    name: &'static CStr,
    hash: u32,
    /// Our own object has come by.
    behind: bool,
    found: *mut c_void,
}

/// The next definition behind our own object; where there is none, one that has an error for those who saw that the symbol is
/// defined here.
fn next(name: &'static CStr) -> *mut c_void {
    extern "C" fn absent() -> isize {
        failed(ENOSYS)
    }
    const ENOSYS: isize = 38;
    extern "C" fn each(object: *const Object, _size: usize, search: *mut c_void) -> c_int {
        // SAFETY: an object, and what the search was begun with.
        let (object, search) = unsafe { (&*object, &mut *search.cast::<Search>()) };
        // SAFETY: the object's own table of headers.
        let headers = unsafe { core::slice::from_raw_parts(object.headers, usize::from(object.count)) };
        if !search.behind {
            let own = next as *const () as usize;
            let holds = |h: &ProgramHeader| h.kind == 1 && own.wrapping_sub(object.address + h.address) < h.memory_size;
            search.behind = headers.iter().any(holds);
            return 0;
        }
        let Some(dynamic) = headers.iter().find(|h| h.kind == 2) else { return 0 };
        // SAFETY: the header says that the object's dynamic section lies there.
        let found = unsafe { defined(object.address, (object.address + dynamic.address) as *const [usize; 2], search) };
        let Some(found) = found else { return 0 };
        search.found = found;
        1
    }
    let hash = name.to_bytes().iter().fold(5381_u32, |h, b| h.wrapping_mul(33).wrapping_add(u32::from(*b)));
    let mut search = Search { name, hash, behind: false, found: absent as *mut c_void };
    objects(each, &mut search);
    search.found
}

/// This thread's errno(3).
pub(crate) fn errno() -> *mut c_int {
    unsafe extern "C" {
        fn __errno_location() -> *mut c_int;
    }
    // SAFETY: it has no conditions.
    unsafe { __errno_location() }
}

/// What a function returns that failed for this reason.
pub(crate) fn failed(why: isize) -> isize {
    // SAFETY: the thread's own.
    unsafe { *errno() = why as c_int };
    -1
}

/// Where an object's tables lie; 0 for one that it does not have.
#[derive(Default)]
struct Tables {
    text: usize,
    symbols: usize,
    hashes: usize,
    versions: usize,
}

impl Tables {
    /// # Safety
    /// `dynamic` is the dynamic section of an object that is loaded at `base`.
    unsafe fn of(base: usize, mut dynamic: *const [usize; 2]) -> Self {
        const HASHES: usize = 0x6fff_fef5;
        const VERSIONS: usize = 0x6fff_fff0;
        let mut tables = Self::default();
        // SAFETY: the section ends with a tag 0.
        while let [tag, value] = unsafe { *dynamic }
            && tag != 0
        {
            // Relocated, but for those of the vDSO, which is read-only.
            let place = if value < base { base + value } else { value };
            match tag {
                5 => tables.text = place,
                6 => tables.symbols = place,
                HASHES => tables.hashes = place,
                VERSIONS => tables.versions = place,
                _ => {}
            }
            // SAFETY: another one follows.
            dynamic = unsafe { dynamic.add(1) };
        }
        tables
    }
}

/// The address of a function that an object defines, of the version that new programs are linked to.
///
/// # Safety
/// `dynamic` is the dynamic section of an object that is loaded at `base`.
unsafe fn defined(base: usize, dynamic: *const [usize; 2], search: &Search) -> Option<*mut c_void> {
    const UNDEFINED: u16 = 0;
    const INDIRECT: u8 = 10;
    // SAFETY: as the caller's. The tables are laid out as elf(5) says, hashes as the linkers write DT_GNU_HASH.
    unsafe {
        let Tables { text, symbols, hashes, versions } = Tables::of(base, dynamic);
        if text == 0 || symbols == 0 || hashes == 0 {
            return None;
        }
        let head = hashes as *const [u32; 4];
        let [buckets, first, words, shift] = *head;
        let filter = head.add(1).cast::<u64>();
        let hash = search.hash;
        let word = *filter.add((hash / 64 % words) as usize);
        if word >> (hash % 64) & word >> ((hash >> shift) % 64) & 1 == 0 {
            return None;
        }
        let bucket = filter.add(words as usize).cast::<u32>();
        let chain = bucket.add(buckets as usize);
        let mut index = *bucket.add((hash % buckets) as usize);
        while index >= first {
            let link = *chain.add((index - first) as usize);
            let symbol = &*(symbols as *const Symbol).add(index as usize);
            let hidden = versions != 0 && *(versions as *const u16).add(index as usize) & 0x8000 != 0;
            if link | 1 == hash | 1
                && symbol.section != UNDEFINED
                && !hidden
                && CStr::from_ptr((text as *const c_char).add(symbol.name as usize)) == search.name
            {
                let address = (base + symbol.value) as *mut c_void;
                if symbol.info & 15 != INDIRECT {
                    return Some(address);
                }
                let resolve: unsafe extern "C" fn() -> *mut c_void = core::mem::transmute(address);
                return Some(resolve());
            }
            if link & 1 == 1 {
                break;
            }
            index += 1;
        }
    }
    None
}
