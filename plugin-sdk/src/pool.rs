//! The memory of a plugin: small blocks come from lists, one for each size, and go back to them.
//!
//! ```text
//!  up to 1 KiB   lists[size / 16] ──▶ a block that was given back
//!                     └─ empty ─────▶ the next bytes of a chunk ──▶ a new chunk of 16 KiB, from the system
//!  more          the system's allocator, wasi-libc's
//! ```
//!
//! A message makes and drops some hundred texts and lists. Each function that Wasm enters asks whether the plugin's time
//! is up, and an allocator for everybody enters four for a block; here it is one list. A plugin has one thread, so the
//! lists need no lock.
//!
//! A small block is never given back to the system: of each size there stay as many as once lived together, and an
//! instance lives for some thousand calls.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait of raw pointers")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// Small blocks have a size that is a multiple of this, and this alignment: Wasm's largest value has 16 bytes.
const STEP: usize = 16;

/// The largest small block.
const SMALL_BYTES_MAX: usize = 1024;

/// How much is taken from the system at once for small blocks.
const CHUNK_BYTES: usize = 16 * 1024;

/// Copies up to this size are made here; a longer one is worth leaving the guest for, as a copy of any length does.
const COPIED_HERE_BYTES_MAX: usize = 256;

/// A plugin's allocator. Only for one thread.
struct Pool(UnsafeCell<Lists>);

struct Lists {
    /// Blocks that were given back; those at `i` have `i * STEP` bytes. Nothing has no bytes.
    free: [Option<NonNull<Free>>; SMALL_BYTES_MAX / STEP + 1],
    /// What is left of the last chunk.
    rest: *mut u8,
    rest_bytes: usize,
}

/// A block that nobody uses.
struct Free {
    next: Option<NonNull<Self>>,
}

#[cfg(target_family = "wasm")]
#[global_allocator]
static POOL: Pool = Pool::new();

#[cfg(all(target_family = "wasm", target_feature = "atomics"))]
compile_error!("plugins have one thread: build without the target feature `atomics`");

// SAFETY: a plugin has one thread, as the lines above see to; elsewhere a pool is a test's local value.
#[cfg(target_family = "wasm")]
unsafe impl Sync for Pool {}

impl Pool {
    const fn new() -> Self {
        Self(UnsafeCell::new(Lists {
            free: [None; SMALL_BYTES_MAX / STEP + 1],
            rest: ptr::null_mut(),
            rest_bytes: 0,
        }))
    }
}

/// The list of a small block; `None`: the system's.
fn class(layout: Layout) -> Option<usize> {
    let small = layout.size() <= SMALL_BYTES_MAX && layout.align() <= STEP;
    small.then(|| layout.size().div_ceil(STEP))
}

impl Lists {
    fn take(&mut self, class: usize) -> *mut u8 {
        match self.free[class] {
            Some(block) => {
                // SAFETY: a block on a list is ours alone, and was written when it came there.
                self.free[class] = unsafe { block.as_ref().next };
                block.as_ptr().cast()
            }
            None => self.cut(class * STEP),
        }
    }

    /// The next so many bytes of the chunk; null: there is no memory.
    fn cut(&mut self, bytes: usize) -> *mut u8 {
        if self.rest_bytes < bytes {
            let chunk = Layout::from_size_align(CHUNK_BYTES, STEP).expect("a power of two");
            // SAFETY: a chunk is not empty.
            let start = unsafe { System.alloc(chunk) };
            if start.is_null() {
                return start;
            }
            (self.rest, self.rest_bytes) = (start, CHUNK_BYTES);
        }
        let block = self.rest;
        self.rest_bytes -= bytes;
        // SAFETY: there are so many bytes left.
        self.rest = unsafe { block.add(bytes) };
        block
    }

    /// # Safety
    /// `block` was taken from the list `class`, and nobody uses it any more.
    unsafe fn give_back(&mut self, block: *mut u8, class: usize) {
        let Some(block) = NonNull::new(block.cast::<Free>()) else { return };
        // SAFETY: it has at least STEP bytes, and their alignment.
        unsafe { block.write(Free { next: self.free[class] }) };
        self.free[class] = Some(block);
    }
}

// SAFETY: a block is on a list or in use, never both; blocks of one list are of one size, which follows from the layout
// that every call brings; and what does not come from a list goes to the system and back with its own layout.
unsafe impl GlobalAlloc for Pool {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            // SAFETY: one thread, and nothing in here allocates from the pool.
            Some(class) => unsafe { (*self.0.get()).take(class) },
            // SAFETY: the caller's.
            None => unsafe { System.alloc(layout) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout) {
            // SAFETY: as in `alloc`; a layout that is the same leads to the same list.
            Some(class) => unsafe { (*self.0.get()).give_back(block, class) },
            // SAFETY: the caller's.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller says that the size does not overflow with this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(layout), class(wanted)) {
            (Some(before), Some(after)) if before == after => block,
            // SAFETY: the caller's.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            // SAFETY: both blocks have so many bytes, and a new one is no other's.
            _ => unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    copy(block, moved, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

/// # Safety
/// Both have so many bytes, and as many more as a multiple of [`STEP`] takes where there are few, and do not overlap.
unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    if bytes > COPIED_HERE_BYTES_MAX {
        // SAFETY: the caller's.
        return unsafe { ptr::copy_nonoverlapping(from, to, bytes) };
    }
    type Sixteen = MaybeUninit<[u8; STEP]>;
    for i in 0..bytes.div_ceil(STEP) {
        // SAFETY: so few bytes lie in small blocks, whose size is a multiple of STEP; or in larger ones.
        unsafe { to.cast::<Sixteen>().add(i).write(from.cast::<Sixteen>().add(i).read()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a power of two")
    }

    /// A block in use, filled with a byte of its own.
    struct Block(*mut u8, Layout, u8);

    impl Block {
        fn check(&self) {
            // SAFETY: it was written up to its size.
            let bytes = unsafe { std::slice::from_raw_parts(self.0, self.1.size()) };
            assert!(bytes.iter().all(|&byte| byte == self.2), "another block wrote into one of {:?}", self.1);
            assert_eq!(self.0 as usize % self.1.align(), 0);
        }

        fn fill(&self) {
            // SAFETY: it is of this size.
            unsafe { ptr::write_bytes(self.0, self.2, self.1.size()) };
        }
    }

    #[test]
    fn blocks_in_use_never_overlap_whatever_is_made_grown_and_dropped() {
        let pool = Pool::new();
        let mut live: Vec<Block> = Vec::new();
        let mut seed = 1_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).expect("31 bits") % below
        };
        for turn in 0..50_000_u32 {
            let mark = turn.to_le_bytes()[0];
            match random(3) {
                0 if !live.is_empty() => {
                    let block = live.swap_remove(random(live.len()));
                    block.check();
                    // SAFETY: it came from this pool with this layout.
                    unsafe { pool.dealloc(block.0, block.1) };
                }
                1 if !live.is_empty() => {
                    let at = random(live.len());
                    let (size, block) = (1 + random(SMALL_BYTES_MAX * 3 / 2), &mut live[at]);
                    block.check();
                    // SAFETY: as above.
                    block.0 = unsafe { pool.realloc(block.0, block.1, size) };
                    let kept = size.min(block.1.size());
                    Block(block.0, layout(kept, block.1.align()), block.2).check();
                    *block = Block(block.0, layout(size, block.1.align()), mark);
                    block.fill();
                }
                _ if live.len() < 500 => {
                    let layout = layout(1 + random(SMALL_BYTES_MAX * 5 / 4), 1 << random(6));
                    // SAFETY: the layout is not empty.
                    let block = Block(unsafe { pool.alloc(layout) }, layout, mark);
                    block.fill();
                    live.push(block);
                }
                _ => {}
            }
        }
        for block in live {
            block.check();
            // SAFETY: as above.
            unsafe { pool.dealloc(block.0, block.1) };
        }
    }

    #[test]
    fn what_was_given_back_comes_again() {
        let pool = Pool::new();
        let (small, other) = (layout(40, 8), layout(48, 1));
        // SAFETY: each block comes from this pool and goes back with its layout.
        unsafe {
            let (first, second) = (pool.alloc(small), pool.alloc(small));
            pool.dealloc(first, small);
            pool.dealloc(second, small);
            assert_eq!(
                (pool.alloc(other), pool.alloc(small)),
                (second, first),
                "of one size, the last first"
            );
            assert_eq!(pool.realloc(first, small, 33), first, "it has room");
        }
    }

    #[test]
    fn a_layout_finds_its_list() {
        assert_eq!(
            [class(layout(1, 1)), class(layout(16, 16)), class(layout(17, 1))],
            [Some(1), Some(1), Some(2)]
        );
        assert_eq!(class(layout(SMALL_BYTES_MAX, 1)), Some(SMALL_BYTES_MAX / STEP));
        assert_eq!([class(layout(SMALL_BYTES_MAX + 1, 1)), class(layout(8, 32))], [None, None]);
    }
}
