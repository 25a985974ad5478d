//! The promises of [`PartSource`].

use burn::tensor::{Tensor, TensorData, backend::Backend};
use lightglm_core::{Embedding, Linear, LoadPart, PartSource};

use crate::split_mix::SplitMix;

/// Checks that `parts` makes the projections `linears` and the embedding table `table` in the shapes
/// asked for and with the same bits each time; that a bias is there exactly where it is asked for;
/// that an unknown name, another shape and a bias that does not exist are errors that name the matrix
/// and not panics; and that there are weights besides the matrices, in a file that has a name.
///
/// # Panics
/// Where a promise is broken, and where no part of `linears` has a bias or none is without one.
pub fn check_part_source<B: Backend, P: PartSource<B>>(
    parts: &P,
    linears: &[LoadPart],
    table: &LoadPart,
    device: &B::Device,
) {
    let with_bias = linears.iter().filter(|part| part.bias).count();
    assert!(with_bias > 0 && with_bias < linears.len(), "one with a bias, and one without");
    let made = |part: &LoadPart| {
        parts.linear(part, device).unwrap_or_else(|error| panic!("`{}`: {error}", part.name))
    };
    for part in linears {
        let linear = made(part);
        assert_eq!(linear.shape(), part.shape, "`{}` has another shape", part.name);
        let x = random_rows::<B>(part.shape[1], device);
        let y = bits(linear.forward(x.clone()));
        assert_eq!(y, bits(made(part).forward(x.clone())), "`{}`: other bits again", part.name);
        let without = part.clone().with_bias(false);
        let differs = y != bits(made(&without).forward(x));
        assert_eq!(differs, part.bias, "`{}`: a bias where none is asked for, or none", part.name);
    }
    let embedding = |part: &LoadPart| {
        parts.embedding(part, device).unwrap_or_else(|error| panic!("`{}`: {error}", part.name))
    };
    let ids: Vec<u32> = (0..table.shape[0] as u32).collect();
    assert_eq!(embedding(table).shape(), table.shape, "the table has another shape");
    let rows = bits(embedding(table).forward(&ids));
    assert_eq!(rows, bits(embedding(table).forward(&ids)), "the table has other bits again");

    for part in linears.iter().chain([table]) {
        let [n, k] = part.shape;
        let unknown = LoadPart::new(format!("{}.none", part.name), part.shape);
        let mut wrong = vec![unknown];
        for shape in [[n + 1, k], [n, k + 1], [k + 1, n + 1], [0, k], [n, 0]] {
            wrong.push(LoadPart { shape, ..part.clone() });
        }
        for wrong in wrong {
            let refusals =
                [parts.linear(&wrong, device).err(), parts.embedding(&wrong, device).err()];
            for error in refusals {
                let error = error.unwrap_or_else(|| panic!("{wrong:?} was made"));
                let says = error.to_string();
                assert!(says.contains(&part.name), "`{says}` does not name `{}`", part.name);
            }
        }
    }
    for part in linears.iter().filter(|part| !part.bias) {
        let asked = part.clone().with_bias(true);
        assert!(parts.linear(&asked, device).is_err(), "`{}` got a bias from nowhere", part.name);
    }

    let (source, file) = parts.weights();
    let vectors = source.names().into_iter().filter_map(|name| source.shape(&name));
    assert!(vectors.filter(|shape| shape.len() == 1).count() > 0, "no norm could be read");
    assert!(!file.as_os_str().is_empty(), "errors name no file");
}

/// `[3, width]`.
fn random_rows<B: Backend>(width: usize, device: &B::Device) -> Tensor<B, 2> {
    let mut random = SplitMix::new(0x9a27);
    let values: Vec<f32> = (0..3 * width).map(|_| random.next_f32()).collect();
    Tensor::from_data(TensorData::new(values, [3, width]), device)
}

fn bits<B: Backend>(values: Tensor<B, 2>) -> Vec<u32> {
    values.into_data().iter::<f32>().map(f32::to_bits).collect()
}
