//! Scratch memory of a thread, kept between calls.

use std::cell::Cell;

/// A cache line of f32, which is what aligns the scratch.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read through the slice only")] [f32; 16]);

thread_local! {
    /// A stack, so that a nested call finds the same memory again the next time, too.
    static SCRATCH: Cell<Vec<Vec<Line>>> = const { Cell::new(Vec::new()) };
}

/// Calls `work` with `len` f32 of this thread's scratch, 64-byte aligned, holding whatever was left
/// there. A nested call gets memory of its own.
pub(super) fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut stack = SCRATCH.take();
    let mut lines = stack.pop().unwrap_or_default();
    SCRATCH.set(stack);
    let needed = len.div_ceil(16);
    if lines.len() < needed {
        lines.resize(needed, Line([0.0; 16]));
    }
    // SAFETY: `Line` is sixteen f32 without padding, and `len` is at most what the lines hold.
    let floats = unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<f32>(), len) };
    let result = work(floats);
    let mut stack = SCRATCH.take();
    stack.push(lines);
    SCRATCH.set(stack);
    result
}

/// A pointer that tasks on several threads write through, each to places of its own.
#[derive(Clone, Copy)]
pub(super) struct Shared<T>(pub(super) *mut T);

// SAFETY: the pointer comes from a `&mut [T]` that outlives the parallel region, and every user
// states why its tasks touch disjoint elements.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer. A method, so that closures capture the whole wrapper.
    pub(super) fn get(self) -> *mut T {
        self.0
    }
}
