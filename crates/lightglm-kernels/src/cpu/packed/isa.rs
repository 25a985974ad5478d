//! Which instruction set does the dot products: found once at run time, overridden in tests.

use std::cell::Cell;
use std::sync::OnceLock;

use super::super::isa::{Isa, Kind};

/// An instruction set for dot products of codes that this CPU has; as for [`Isa`], a value is a
/// proof of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DotIsa(pub(super) DotKind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum DotKind {
    Scalar,
    /// Any codes, with activations of 16 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Weights of 4 bits, with activations of 8. No [`DotIsa`] of a caller is this one.
    #[cfg(target_arch = "x86_64")]
    Avx2Nibbles,
    /// The 256-bit instructions of AVX-512 VNNI. They tell on any such machine what AVX-VNNI does.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni256,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

thread_local! {
    static FORCED: Cell<Option<DotIsa>> = const { Cell::new(None) };
}

impl DotIsa {
    /// Every instruction set of this CPU that there are kernels for, slowest first.
    pub fn available() -> Vec<Self> {
        let mut found = vec![Self(DotKind::Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let floats = Isa::available();
            if floats.contains(&Isa(Kind::Avx2)) {
                found.push(Self(DotKind::Avx2));
            }
            let wide = floats.contains(&Isa(Kind::Avx512)) && has!("avx512vnni");
            if wide {
                found.push(Self(DotKind::Avx512Vnni256));
            }
            if floats.contains(&Isa(Kind::Avx2)) && has!("avxvnni") {
                found.push(Self(DotKind::AvxVnni));
            }
            if wide {
                found.push(Self(DotKind::Avx512Vnni));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if Isa::available().contains(&Isa(Kind::Neon)) {
            found.push(Self(DotKind::Neon));
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                found.push(Self(DotKind::NeonDot));
            }
        }
        found
    }

    /// The instruction set that kernels called from this thread use: the fastest one, unless this
    /// call stands inside [`DotIsa::run`], or inside [`Isa::run`] with the scalar kernels.
    pub fn current() -> Self {
        static BEST: OnceLock<DotIsa> = OnceLock::new();
        let best = || match Isa::current().0 {
            Kind::Scalar => Self(DotKind::Scalar),
            _ => *BEST.get_or_init(|| Self::available().pop().unwrap_or(Self(DotKind::Scalar))),
        };
        FORCED.get().unwrap_or_else(best)
    }

    /// Runs `work` with this instruction set in place of the fastest one, as [`Isa::run`] does.
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        struct Restore(Option<DotIsa>);
        impl Drop for Restore {
            fn drop(&mut self) {
                FORCED.set(self.0);
            }
        }
        let _restore = Restore(FORCED.replace(Some(self)));
        work()
    }

    /// `scalar`, `avx2`, `avx512vnni-256`, `avxvnni`, `avx512vnni`, `neon` or `neon-dotprod`.
    pub fn name(self) -> &'static str {
        match self.0 {
            DotKind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            DotKind::Avx2 | DotKind::Avx2Nibbles => "avx2",
            #[cfg(target_arch = "x86_64")]
            DotKind::Avx512Vnni256 => "avx512vnni-256",
            #[cfg(target_arch = "x86_64")]
            DotKind::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            DotKind::Avx512Vnni => "avx512vnni",
            #[cfg(target_arch = "aarch64")]
            DotKind::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            DotKind::NeonDot => "neon-dotprod",
        }
    }

    /// Lanes of activations in the largest register tile.
    pub(super) fn max_lanes(self) -> usize {
        #[cfg(target_arch = "x86_64")]
        if self.0 == DotKind::Avx512Vnni {
            return 12;
        }
        6
    }

    /// What [`super::dot::Dot::dot`] takes off each code of a weight.
    pub(super) fn byte_bias(self) -> i32 {
        let signed = cfg!(target_arch = "aarch64") && self.0 != DotKind::Scalar;
        if signed { 128 } else { 0 }
    }

    /// The form of this instruction set for weights of 4 bits, or of 8; `whole` where codes of
    /// activations need more than 8 bits and are to stay whole.
    pub(super) fn form(self, nibbles: bool, whole: bool) -> Self {
        #[cfg(target_arch = "x86_64")]
        if self.0 == DotKind::Avx2 && nibbles && !whole {
            return Self(DotKind::Avx2Nibbles);
        }
        let _ = (nibbles, whole);
        self
    }

    /// [`super::dot::Dot::QUAD`].
    pub(super) fn quad(self) -> usize {
        #[cfg(target_arch = "x86_64")]
        if self.0 == DotKind::Avx2 {
            return 8;
        }
        4
    }
}

/// Stamps an algorithm that is generic over `Dot` onto every instruction set, as
/// [`super::super::isa::kernel`] does for `Simd`.
macro_rules! dot_kernel {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident (
        $($arg:ident: $ty:ty),* $(,)?
    ) = $generic:ident;) => {
        $(#[$meta])*
        $vis unsafe fn $name(isa: $crate::cpu::packed::DotIsa, $($arg: $ty),*) {
            use $crate::cpu::packed::isa::DotKind;
            use $crate::cpu::packed::plain::Plain;
            #[cfg(target_arch = "x86_64")]
            use $crate::cpu::packed::{ymm::{Evex, Nibbles, Pair, Vex, Words}, zmm::Zmm};
            #[cfg(target_arch = "aarch64")]
            use $crate::cpu::packed::neon::{Quads, Sdot, Widened};
            /// One instruction set: its function's name, its features, the implementor of `Dot`.
            macro_rules! on {
                ($function:ident, $features:literal, $dot:ty) => {
                    #[target_feature(enable = $features)]
                    unsafe fn $function($($arg: $ty),*) {
                        // SAFETY: this function has the implementor's features; the rest is the
                        // caller's.
                        unsafe { $generic::<$dot>($($arg),*) }
                    }
                };
            }
            #[cfg(target_arch = "x86_64")]
            on!(avx2, "avx2,fma,f16c", Pair<Words>);
            #[cfg(target_arch = "x86_64")]
            on!(avx2_nibbles, "avx2,fma,f16c", Pair<Nibbles>);
            #[cfg(target_arch = "x86_64")]
            on!(avxvnni, "avx2,fma,f16c,avxvnni", Pair<Vex>);
            #[cfg(target_arch = "x86_64")]
            on!(
                avx512vnni_256,
                "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni",
                Pair<Evex>
            );
            #[cfg(target_arch = "x86_64")]
            on!(
                avx512vnni,
                "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni",
                Zmm
            );
            #[cfg(target_arch = "aarch64")]
            on!(neon, "neon", Quads<Widened>);
            #[cfg(target_arch = "aarch64")]
            on!(neon_dot, "neon,dotprod", Quads<Sdot>);
            // SAFETY: a `DotIsa` exists only where the CPU has it; the rest is the caller's.
            unsafe {
                match isa.0 {
                    DotKind::Scalar => $generic::<Plain>($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    DotKind::Avx2 => avx2($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    DotKind::Avx2Nibbles => avx2_nibbles($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    DotKind::AvxVnni => avxvnni($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    DotKind::Avx512Vnni256 => avx512vnni_256($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    DotKind::Avx512Vnni => avx512vnni($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    DotKind::Neon => neon($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    DotKind::NeonDot => neon_dot($($arg),*),
                }
            }
        }
    };
}
pub(super) use dot_kernel;
