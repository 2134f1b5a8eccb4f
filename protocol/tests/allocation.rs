//! Decoding takes memory in proportion to what was sent, whatever lengths the bytes promise.

#![expect(
    unsafe_code,
    reason = "an allocator that counts can only be written so"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use dialtone_protocol::Frame;

struct Counting;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        LARGEST.fetch_max(new_size, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// No element of a list takes more than this many times its shortest encoding.
const FACTOR: usize = 128;

/// For boxes and texts of errors, in bytes.
const FIXED: usize = 512;

#[test]
fn a_promised_length_takes_no_memory() {
    let lengths: [&[u8]; 4] = [
        &[0x7f],
        &[0xff, 0x7f],
        &[0xff, 0xff, 0xff, 0x0f],
        &[0xff; 9],
    ];
    for kind in 0..24_u8 {
        for skipped in 0..24 {
            for length in lengths {
                for filler in [0, 1, 0xff] {
                    let mut body = vec![kind];
                    body.extend(std::iter::repeat_n(1, skipped));
                    body.extend_from_slice(length);
                    body.extend(std::iter::repeat_n(filler, 100));
                    check(&body);
                }
            }
        }
    }
}

fn check(body: &[u8]) {
    LARGEST.store(0, Ordering::Relaxed);
    let decoded = Frame::decode(body);
    let largest = LARGEST.load(Ordering::Relaxed);
    let bound = FACTOR * body.len() + FIXED;
    assert!(
        largest <= bound,
        "{largest} bytes for {} bytes of {decoded:?}",
        body.len()
    );
}
