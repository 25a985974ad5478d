#!/usr/bin/env bash
# The NEON kernels on a processor that has none: their tests compiled for aarch64 and run by qemu-user.
#
#   tools/neon_check.sh
#
# The tests compare every instruction set with the scalar kernels, bit for bit. They run on a processor with
# the integer dot product, which has both integer paths; some of quantized matrices run once more on one
# without it, where the other path is the one that is chosen. Nothing but the kernels is optimized: burn
# compiles in half the time (gemm's f16 code needs the optimizer to compile at all). Two tests that take qemu
# a minute each are left out, and those that are about burn more than about the kernels.
#
# Needs (Debian): apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
#                 rustup target add aarch64-unknown-linux-gnu
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export PROPTEST_CASES=${PROPTEST_CASES:-8} # qemu is far slower than a processor
optimized=()
for crate in lightglm-kernels=3 gemm-common=1 gemm-f16=1; do
    optimized+=(--config "profile.release.package.${crate%=*}.opt-level=${crate#*=}")
done
# Runs tests of the kernels on one of qemu's processors.
on() {
    local processor=$1
    shift
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu $processor" \
        cargo test --release -p lightglm-kernels --target aarch64-unknown-linux-gnu \
        --config 'profile.release.opt-level=0' "${optimized[@]}" "$@"
}
on max --test kernels --test packed --test channels --test product --test attention --test float_channels \
    -- --skip several_chunks --skip every_output_is_one_sum_in_the_order_of_channels
on max --test nested_scales -- a_small_matrix
on cortex-a72 --test packed -- every_number_of_tokens long_rows_do_not_overflow numbers_of_torch
