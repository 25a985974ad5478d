//! Which instruction set runs: found once at run time, overridden per thread in tests.

use std::cell::Cell;
use std::sync::OnceLock;

/// An instruction set that this CPU has.
///
/// A value of this type is a proof: there is no way to make one for an instruction set that the CPU
/// lacks, which is what the calls into `target_feature` functions rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa(pub(super) Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

impl Isa {
    /// Every instruction set of this CPU that there are kernels for, slowest first.
    pub fn available() -> Vec<Self> {
        let mut found = vec![Self(Kind::Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            if avx2 {
                found.push(Self(Kind::Avx2));
            }
            let foundation = has!("avx512f") && has!("avx512bw");
            if avx2 && foundation && has!("avx512dq") && has!("avx512vl") {
                found.push(Self(Kind::Avx512));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            found.push(Self(Kind::Neon));
        }
        found
    }

    /// The instruction set that kernels called from this thread use: the fastest one, unless this
    /// call stands inside [`Isa::run`].
    pub fn current() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        FORCED.get().unwrap_or_else(|| {
            *BEST.get_or_init(|| Self::available().pop().unwrap_or(Self(Kind::Scalar)))
        })
    }

    /// Runs `work` with this instruction set in place of the fastest one. Results do not change,
    /// only time does; tests and benchmarks want it.
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        struct Restore(Option<Isa>);
        impl Drop for Restore {
            fn drop(&mut self) {
                FORCED.set(self.0);
            }
        }
        let _restore = Restore(FORCED.replace(Some(self)));
        work()
    }

    /// Whether a vector is one register out of 32 ([`super::simd::Simd::WIDE`]).
    pub(super) fn is_wide(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => true,
            _ => false,
        }
    }

    /// `scalar`, `avx2`, `avx512` or `neon`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
        }
    }
}

/// Stamps an algorithm that is generic over `Simd` onto every instruction set.
///
/// `unsafe fn name<E: Element>(a: A) -> R = generic;` makes `name(isa, a)`, which calls
/// `generic::<ThatSimd, E>(a)` compiled for `isa`. It is unsafe for whatever reason `generic` is;
/// the instruction set is vouched for by the [`Isa`] value.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident $(<$e:ident: $bound:path>)? (
        $($arg:ident: $ty:ty),* $(,)?
    ) $(-> $ret:ty)? = $generic:ident;) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name $(<$e: $bound>)? (
            isa: $crate::cpu::isa::Isa, $($arg: $ty),*
        ) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512 $(<$e: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function's features are those of `Avx512`; the rest is the caller's.
                unsafe { $generic::<$crate::cpu::avx512::Avx512 $(, $e)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2 $(<$e: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function's features are those of `Avx2`; the rest is the caller's.
                unsafe { $generic::<$crate::cpu::avx2::Avx2 $(, $e)?>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn neon $(<$e: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function's features are those of `Neon`; the rest is the caller's.
                unsafe { $generic::<$crate::cpu::neon::Neon $(, $e)?>($($arg),*) }
            }
            // SAFETY: an `Isa` exists only where the CPU has it; the rest is the caller's.
            unsafe {
                match isa.0 {
                    $crate::cpu::isa::Kind::Scalar => {
                        $generic::<$crate::cpu::scalar::Scalar $(, $e)?>($($arg),*)
                    }
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::isa::Kind::Avx2 => avx2 $(::<$e>)? ($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::isa::Kind::Avx512 => avx512 $(::<$e>)? ($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::cpu::isa::Kind::Neon => neon $(::<$e>)? ($($arg),*),
                }
            }
        }
    };
}
pub(super) use kernel;
