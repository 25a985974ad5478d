//! `SchemeError`: why a text names no scheme.

/// Why a text names no scheme.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemeError {
    /// The name itself is unknown.
    #[error(
        "unknown scheme `{text}`: known are dense, int8, int4, int8wo, int4wo, w8a8, w4a8, w8a16, w4a16, with -g32, -g64, -g128, -zp, -ag128, -at, -f16, -f32 behind all but the first three"
    )]
    Unknown {
        /// The whole text.
        text: String,
    },
    /// What stands behind the name is unknown, stands twice, or contradicts what stands before.
    #[error(
        "scheme `{text}`: `{modifier}` is not understood there: known are -gN, -zp, -agN or -at, -f16 or -f32, each once, with N a multiple of 8"
    )]
    Modifier {
        /// The whole text.
        text: String,
        /// The part at fault, without its dash.
        modifier: String,
    },
}
