//! Asking for memory before it is needed.
#![expect(
    unsafe_code,
    reason = "there is no other way to tell the processor; loading in advance instead makes it wait \
              whenever it has guessed wrong what to do with the value"
)]

/// Brings the beginning of `value` into the processor's cache, without waiting for it.
#[inline]
pub(super) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction is a hint and accesses nothing; every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
