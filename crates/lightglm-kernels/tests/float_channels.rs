//! Weights in the order of input channels: against the plain product, and bit for bit against their
//! own specification, whatever is left out.

use burn::backend::Autodiff;
use burn::tensor::{DType, Distribution, Tensor};
use burn_flex::{Flex, FlexDevice};
use half::{bf16, f16};
use lightglm_kernels::cpu::{self, CHANNEL_TILE_STEP, Isa, Weights, team};
use lightglm_kernels::{LmBackend, channel_tiles, reference};
use random::Rng;

mod random;

/// Sums of a few hundred products of numbers near 1, in another order.
const TOLERANCE: f32 = 2e-4;

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Numbers of which `zeros` in a hundred are zero, of either sign.
fn sparse(len: usize, zeros: u64, rng: &mut Rng) -> Vec<f32> {
    let value =
        |rng: &mut Rng| if rng.next() % 100 < zeros { 0.0 * rng.unit() } else { rng.unit() };
    (0..len).map(|_| value(rng)).collect()
}

/// `w: [n, k]` in tiles, laid out as the documentation says.
fn tiled<E: Copy>(w: &[E], [n, k]: [usize; 2], tile_rows: usize, zero: E) -> Vec<E> {
    let mut tiles = vec![zero; n.div_ceil(tile_rows) * k * tile_rows];
    for row in 0..n {
        for channel in 0..k {
            let run = row / tile_rows * k + channel;
            tiles[run * tile_rows + row % tile_rows] = w[row * k + channel];
        }
    }
    tiles
}

/// The specification: one sum over all channels.
fn specified(x: &[f32], w: &[f32], [n, k]: [usize; 2], bias: Option<&[f32]>) -> Vec<f32> {
    let t = x.len() / k.max(1);
    let output = |i: usize| {
        let (x, w) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
        let sum = x.iter().zip(w).fold(0.0f32, |sum, (x, w)| x.mul_add(*w, sum));
        sum + bias.map_or(0.0, |bias| bias[i % n])
    };
    (0..t * n).map(output).collect()
}

/// The product on every instruction set and several numbers of threads is `expected`.
fn check(
    what: &str,
    x: &[f32],
    w: Weights<'_>,
    shape: [usize; 2],
    tile_rows: usize,
    bias: Option<&[f32]>,
    expected: &[f32],
) {
    for isa in Isa::available() {
        for threads in [1, 2, 3, 5] {
            team::set_num_threads(threads);
            let mut y = vec![f32::NAN; expected.len()];
            isa.run(|| cpu::linear_channels(x, w, shape, tile_rows, bias, &mut y));
            assert_eq!(bits(&y), bits(expected), "{what}, {} on {threads} threads", isa.name());
        }
    }
}

fn check_shape(shape: [usize; 2], tile_rows: usize, tokens: &[usize], rng: &mut Rng) {
    let [n, k] = shape;
    let brain: Vec<bf16> = rng.vec(n * k).into_iter().map(bf16::from_f32).collect();
    let half: Vec<f16> = rng.vec(n * k).into_iter().map(f16::from_f32).collect();
    let brain_as_f32: Vec<f32> = brain.iter().map(|w| w.to_f32()).collect();
    let half_as_f32: Vec<f32> = half.iter().map(|w| w.to_f32()).collect();
    let brain = tiled(&brain, shape, tile_rows, bf16::ZERO);
    let half = tiled(&half, shape, tile_rows, f16::ZERO);
    let single = tiled(&brain_as_f32, shape, tile_rows, 0.0);
    let bias = rng.vec(n);
    for &t in tokens {
        for zeros in [0, 50, 100] {
            let x = sparse(t * k, zeros, rng);
            for bias in [None, Some(&bias[..])] {
                let what = format!("{n}x{k} in tiles of {tile_rows}, {t} tokens, {zeros} % zeros");
                // Nothing to fold over leaves no tokens to count.
                let expected = |w: &[f32]| match k {
                    0 => bias.map_or(vec![0.0; t * n], |bias| bias.repeat(t)),
                    _ => specified(&x, w, shape, bias),
                };
                let of_brain = expected(&brain_as_f32);
                check(&what, &x, Weights::Bf16(&brain), shape, tile_rows, bias, &of_brain);
                check(&what, &x, Weights::F32(&single), shape, tile_rows, bias, &of_brain);
                let of_half = expected(&half_as_f32);
                check(&what, &x, Weights::F16(&half), shape, tile_rows, bias, &of_half);
            }
        }
    }
}

#[test]
fn every_output_is_one_sum_in_the_order_of_channels() {
    let mut rng = Rng(21);
    let tokens = [1, 2, 3, 4, 5, 64];
    for shape in [[1, 1], [3, 65], [64, 4], [65, 64], [130, 257], [257, 7], [0, 5], [5, 0]] {
        check_shape(shape, CHANNEL_TILE_STEP, &tokens, &mut rng);
        check_shape(shape, cpu::channel_tile_rows(shape[0], 2), &tokens, &mut rng);
    }
    check_shape([700, 90], 192, &[0, 1, 7, 8, 31, 32], &mut rng);
    // More than one piece of channels, for groups of tokens and widened; a long run, cut among threads.
    check_shape([1100, 300], 1152, &[1, 3, 6, 33], &mut rng);
}

#[test]
fn tiles_are_long_even_in_number_and_cover_the_rows() {
    for (element, most) in [(2, 2048), (4, 1024)] {
        for n in (0..9000).chain([13_696, 27_392, 151_552]) {
            let rows = cpu::channel_tile_rows(n, element);
            assert!(
                rows.is_multiple_of(CHANNEL_TILE_STEP) && rows > 0 && rows <= most,
                "{n}: {rows}"
            );
            let tiles = n.div_ceil(rows);
            assert!(n > most || tiles <= 2, "{n}: {tiles} tiles");
            assert!(
                tiles * rows < n + tiles * CHANNEL_TILE_STEP || n == 0,
                "{n}: {tiles} of {rows}"
            );
        }
    }
    assert_eq!(cpu::channel_tile_rows(4096, 2), 2048);
    assert_eq!(cpu::channel_tile_rows(1024, 4), 512);
    assert_eq!(cpu::channel_tile_rows(6848, 2), 1728);
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &FlexDevice)
}

fn values<const D: usize>(x: Tensor<Flex, D>) -> Vec<f32> {
    x.into_data().convert::<f32>().to_vec().expect("f32")
}

fn assert_close<const D: usize>(actual: Tensor<Flex, D>, expected: Tensor<Flex, D>, what: &str) {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    for (i, (a, e)) in values(actual).into_iter().zip(values(expected)).enumerate() {
        assert!((a - e).abs() <= TOLERANCE * e.abs().max(1.0), "{what}: [{i}] {a} against {e}");
    }
}

#[test]
fn the_fast_path_the_reference_and_the_row_major_product_agree() {
    for [n, k] in [[1, 1], [48, 64], [257, 65], [1500, 130], [2200, 31]] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let (weight, bias) = (random([n, k]).cast(dtype), random([n]));
            let tiles = channel_tiles(weight.clone());
            assert_eq!(tiles.dtype(), dtype);
            for t in [1, 2, 5, 40] {
                let x = Flex::keep_large(random([t, k]), 0.5);
                let what = format!("{t}x{k}x{n} {dtype:?}");
                let project = |bias: Option<Tensor<Flex, 1>>| {
                    Flex::project_channels(x.clone(), tiles.clone(), n, bias)
                };
                for bias in [None, Some(bias.clone())] {
                    let by_row = reference::project(x.clone(), weight.clone(), bias.clone());
                    let slow =
                        reference::project_channels(x.clone(), tiles.clone(), n, bias.clone());
                    assert_eq!(values(slow), values(by_row.clone()), "{what}");
                    assert_close(project(bias), by_row, &what);
                }
            }
        }
    }
}

#[test]
fn tiles_of_another_size_go_the_slow_way() {
    let (x, tiles) = (random([2, 5]), random([3, 5, 7]));
    let expected = reference::project_channels(x.clone(), tiles.clone(), 20, None);
    assert_close(Flex::project_channels(x, tiles, 20, None), expected, "tiles of 7 rows");
}

#[test]
fn a_matrix_keeps_its_numbers() {
    for [n, k] in [[0, 3], [1, 1], [130, 67], [4200, 3]] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let weight = random([n, k]).cast(dtype);
            let tiles = channel_tiles(weight.clone());
            let [count, _, rows] = tiles.dims();
            assert_eq!(rows, cpu::channel_tile_rows(n, dtype.size()));
            let tiles = values(tiles);
            assert_eq!(tiles, tiled(&values(weight), [n, k], rows, 0.0), "{count} tiles of {rows}");
        }
    }
    // A view of a transposed matrix.
    let weight = random([9, 70]).transpose();
    assert_eq!(values(channel_tiles(weight.clone())), tiled(&values(weight), [70, 9], 64, 0.0));
}

#[test]
fn not_a_number_is_not_left_out() {
    let tiles = channel_tiles(random([40, 70]));
    let mut x = vec![0.0; 70];
    x[69] = f32::NAN;
    let x = Tensor::<Flex, 1>::from_floats(&x[..], &FlexDevice).unsqueeze();
    let y = values(Flex::project_channels(x, tiles, 40, None));
    assert!(y.iter().all(|y| y.is_nan()), "{y:?}");
}

#[test]
fn gradients_are_those_of_the_row_major_projection() {
    type Ad = Autodiff<Flex>;
    let (n, k, t) = (150, 37, 6);
    let weight = random([n, k]);
    let tiles = channel_tiles(weight.clone());
    let leaf = |x: Tensor<Flex, 2>| Tensor::<Ad, 2>::from_inner(x).require_grad();
    let (x, slope) = (Flex::keep_large(random([t, k]), 0.5), random([t, n]));
    let bias = Tensor::<Ad, 1>::from_inner(random([n])).require_grad();
    let slope = Tensor::from_inner(slope);

    let (row_x, row_w) = (leaf(x.clone()), leaf(weight));
    let y = Ad::project(row_x.clone(), row_w.clone(), Some(bias.clone()));
    let rows = (y * slope.clone()).sum().backward();
    let (channel_x, channel_w) = (leaf(x), Tensor::<Ad, 3>::from_inner(tiles).require_grad());
    let y = Ad::project_channels(channel_x.clone(), channel_w.clone(), n, Some(bias.clone()));
    let channels = (y * slope).sum().backward();

    let gradient = |x: &Tensor<Ad, 2>, of| x.grad(of).expect("a gradient");
    assert_close(gradient(&channel_x, &channels), gradient(&row_x, &rows), "x");
    let of_bias = |of| bias.grad(of).expect("a gradient");
    assert_close(of_bias(&channels), of_bias(&rows), "bias");
    let of_tiles = channel_w.grad(&channels).expect("a gradient");
    // What fills the tiles up has no part in the outputs.
    assert_close(of_tiles, channel_tiles(gradient(&row_w, &rows)), "weight");
}
