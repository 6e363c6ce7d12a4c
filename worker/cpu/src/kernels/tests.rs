use half::bf16;
use proptest::prelude::*;
use shardrun_files::TensorType;

use super::*;
use crate::{
    Operand,
    matrix::{Matrix, Run},
    memory::Arena,
    operand::Forms,
    pool::Pool,
    testing::{Random, Stored, TYPES, kernels_that_run},
    workspace::Workspace,
};

/// How far a sum may be from another one of the same products, relative to the sum of their
/// magnitudes. The chains are at most some hundreds of additions long, each of which is off by
/// 6e-8 at most.
const SUM_TOLERANCE: f32 = 2e-6;

fn scalar() -> Kernels {
    Kernels::new(Isa::Scalar).expect("runs everywhere")
}

fn pack_columns(stored: &Stored, columns: &Range<usize>) -> Matrix {
    let mut pool = Pool::new(1, None, false).expect("no threads to start");
    let view = stored.view().columns_in(columns.clone()).expect("on sub-blocks");
    Matrix::pack(&[view], &mut Arena::default(), &mut pool).expect("a small matrix")
}

/// A matrix of some hundred columns, and some of them.
fn any_columns(
    tensor_type: TensorType,
    outputs: usize,
    blocks: usize,
    seed: u64,
) -> (Stored, Range<usize>) {
    // More sub-blocks than are unpacked at once.
    let columns = 256 * (blocks + if seed.is_multiple_of(4) { 4 } else { 0 });
    let granule = tensor_type.sub_block_len();
    let start = seed as usize % 200 / granule * granule;
    let end = columns - seed as usize / 200 % 200 / granule * granule;
    let stored = Stored::random(tensor_type, outputs, columns, seed);
    (stored, start..end.max(start + granule))
}

/// A matrix of any columns, packed, and inputs for so many rows.
struct Given {
    stored: Stored,
    columns: Range<usize>,
    matrix: Matrix,
    inputs: Vec<Vec<f32>>,
}

impl Given {
    fn new(tensor_type: TensorType, outputs: usize, blocks: usize, rows: usize, seed: u64) -> Self {
        let (stored, columns) = any_columns(tensor_type, outputs, blocks, seed);
        let matrix = pack_columns(&stored, &columns);
        let mut random = Random(seed);
        let inputs = (0..rows).map(|_| random.values(columns.len())).collect();
        Self { stored, columns, matrix, inputs }
    }

    fn products(&self, kernels: Kernels, rows: usize, forms: Forms) -> Vec<f32> {
        products(kernels, &self.matrix, &self.inputs, rows, forms)
    }

    /// The weights of one output.
    fn weights(&self, output: usize) -> Vec<f32> {
        self.stored.row(output)[self.columns.clone()].to_vec()
    }
}

/// How operands for float32 products are, and those for quantised ones.
const FLOATS: Forms = Forms { floats: true, quants: false, pairs: false };
const QUANTS: Forms = Forms { floats: false, quants: true, pairs: false };
const PAIRS: Forms = Forms { floats: false, quants: false, pairs: true };

/// `inputs` as an operand.
fn operand(kernels: Kernels, inputs: &[Vec<f32>], forms: Forms) -> Operand {
    let columns = inputs.first().map_or(0, Vec::len);
    let workspace = Workspace::default();
    let operand = Operand::new(&workspace, inputs.len(), columns, kernels, forms);
    let mut operand = operand.expect("a small operand");
    let writer = operand.writer();
    for (row, inputs) in inputs.iter().enumerate() {
        // SAFETY: there is one thread.
        unsafe { writer.put(kernels, row, 0, Rows::one(inputs)) };
    }
    operand
}

/// The products of all outputs with `inputs`, which come `rows` at a time; `[rows, outputs]`.
fn products(
    kernels: Kernels,
    matrix: &Matrix,
    inputs: &[Vec<f32>],
    rows: usize,
    forms: Forms,
) -> Vec<f32> {
    let mut all = Vec::new();
    for inputs in inputs.chunks(rows) {
        let operand = operand(kernels, inputs, forms);
        // One cell more than there are outputs, to see that it stays.
        let stride = matrix.outputs() + 1;
        let mut products = vec![f32::NAN; inputs.len() * stride];
        for (run, outputs) in matrix.runs(0..matrix.groups()) {
            assert_eq!(outputs, 0..matrix.outputs());
            let mut products = Rectangle::new(&mut products, inputs.len(), outputs.len(), stride);
            if let Some(x) = operand.pairs() {
                kernels.multiply_pairs(&run, x, &mut products);
                continue;
            }
            match (run, operand.quants(), operand.floats()) {
                (Run::Floats(weights), _, Some(x)) => {
                    for (rows, panel) in x.panels() {
                        let products = products.part(rows, outputs.clone());
                        kernels.multiply_panel(weights, panel, products, false);
                    }
                }
                (Run::Quants(weights), Some(x), None) => {
                    kernels.multiply_quants(&weights, x, &mut products, false);
                }
                (Run::Quants(weights), None, Some(x)) => {
                    kernels.multiply_dequantised(&weights, x, &mut products, false);
                }
                _ => panic!("a form that goes with the weights"),
            }
        }
        for row in products.chunks(stride) {
            assert!(row[stride - 1].is_nan());
            all.extend_from_slice(&row[..stride - 1]);
        }
    }
    all
}

/// `x` as quantised panels mean it.
fn quantised(x: &[f32]) -> Vec<f32> {
    let blocks = x.chunks(SUB_BLOCK).flat_map(|block| {
        let greatest = block.iter().map(|x| x.abs()).fold(0.0, f32::max);
        let (scale, inverse) = (greatest / 127.0, 127.0 / greatest);
        block.iter().map(move |x| (x * inverse).round_ties_even() * scale)
    });
    blocks.collect()
}

fn assert_near(got: f32, want: f32, magnitude: f32, tolerance: f32) {
    assert!((got - want).abs() <= tolerance * magnitude, "{got} is not {want} within {tolerance}");
}

/// One chain of multiply-adds, of each pair the second first.
fn chain(weights: &[f32], inputs: &[f32]) -> f32 {
    let pairs = weights.chunks(2).zip(inputs.chunks(2));
    let terms = pairs.flat_map(|(weights, inputs)| weights.iter().zip(inputs).rev());
    terms.fold(0.0, |sum, (w, x)| f32::mul_add(*w, *x, sum))
}

/// Of each block of thirty-two, one chain of the first of all pairs and one of the second, and their sums
/// added.
fn chains_of_blocks(order: PairOrder, weights: &[f32], inputs: &[f32]) -> f32 {
    weights.chunks(SUB_BLOCK).zip(inputs.chunks(SUB_BLOCK)).fold(0.0, |sum, (weights, inputs)| {
        let [first, second] = [0, 1].map(|from| {
            let columns = (from..SUB_BLOCK).step_by(2).map(|place| order.column_at(place));
            let columns = columns.filter(|&column| column < weights.len());
            columns.fold(0.0, |sum, at| f32::mul_add(weights[at], inputs[at], sum))
        });
        sum + (first + second)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_are_those_of_the_definition(
        tensor_type in prop::sample::select(&TYPES[..]),
        outputs in 1..70usize,
        blocks in 1..4usize,
        rows in 1..20usize,
        seed: u64,
    ) {
        let given = Given::new(tensor_type, outputs, blocks, rows, seed);
        let reference = given.products(scalar(), rows, FLOATS);
        for kernels in kernels_that_run() {
            let products = given.products(kernels, rows, FLOATS);
            for row in 0..rows {
                for output in 0..outputs {
                    let weights = given.weights(output);
                    let terms = || weights.iter().zip(&given.inputs[row]).map(|(w, x)| f64::from(w * x));
                    let magnitude = terms().map(f64::abs).sum::<f64>() as f32;
                    let product = products[row * outputs + output];
                    assert_near(product, terms().sum::<f64>() as f32, magnitude, SUM_TOLERANCE);
                    let reference = reference[row * outputs + output];
                    assert_near(product, reference, magnitude, SUM_TOLERANCE);
                }
            }
        }
    }

    #[test]
    fn quantised_products_are_those_of_the_definition(
        tensor_type in prop::sample::select(crate::testing::quantised()),
        outputs in 1..50usize,
        blocks in 1..4usize,
        rows in 1..40usize,
        seed: u64,
    ) {
        let given = Given::new(tensor_type, outputs, blocks, rows, seed);
        let reference = given.products(scalar(), rows, QUANTS);
        for row in 0..rows {
            let x = quantised(&given.inputs[row]);
            for output in 0..outputs {
                let weights = given.weights(output);
                let terms = || weights.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                // Quants and minimum are added up apart, so what counts is how large those are.
                let magnitude = 8.0 * terms().map(f64::abs).sum::<f64>() as f32 + 1e-3;
                let product = reference[row * outputs + output];
                assert_near(product, terms().sum::<f64>() as f32, magnitude, SUM_TOLERANCE);
            }
        }
        for kernels in kernels_that_run() {
            // Bit for bit, in all instruction sets.
            prop_assert_eq!(&given.products(kernels, rows, QUANTS), &reference);
        }
    }

    #[test]
    fn products_of_pairs_are_chains_of_rounded_numbers(
        tensor_type in prop::sample::select(&TYPES[..]),
        outputs in 1..70usize,
        blocks in 1..4usize,
        rows in 1..40usize,
        seed: u64,
    ) {
        let given = Given::new(tensor_type, outputs, blocks, rows, seed);
        let rounded = |x: &f32| bf16::from_f32(*x).to_f32();
        let weights: Vec<Vec<f32>> = (0..outputs)
            .map(|output| given.weights(output).iter().map(rounded).collect())
            .collect();
        let (mut chains, mut tiles) = (Vec::new(), Vec::new());
        for inputs in &given.inputs {
            let inputs: Vec<f32> = inputs.iter().map(rounded).collect();
            chains.extend(weights.iter().map(|weights| chain(weights, &inputs)));
            let order = PairOrder::EvenFirst;
            tiles.extend(weights.iter().map(|weights| chains_of_blocks(order, weights, &inputs)));
        }
        for kernels in kernels_that_run().filter(|kernels| kernels.has_pairs()) {
            let expected = if kernels.isa() == Isa::Amx { &tiles } else { &chains };
            prop_assert_eq!(&given.products(kernels, rows, PAIRS), expected);
        }
    }

    #[test]
    fn a_row_has_the_same_bits_in_a_panel_of_any_width(
        tensor_type in prop::sample::select(&TYPES[..]),
        outputs in 1..70usize,
        blocks in 1..4usize,
        seed: u64,
    ) {
        let given = Given::new(tensor_type, outputs, blocks, 81, seed);
        for kernels in kernels_that_run() {
            for forms in [FLOATS, QUANTS, PAIRS] {
                if forms.quants && tensor_type.block_len() == 1
                    || forms.pairs && !kernels.has_pairs()
                {
                    continue;
                }
                let alone = given.products(kernels, 1, forms);
                for rows in (2..=17).chain([32, 33, 48, 49, 81]) {
                    prop_assert_eq!(&given.products(kernels, rows, forms), &alone);
                }
            }
        }
    }

    #[test]
    fn silu_is_near_the_reference(len in 0..70usize, seed: u64) {
        let mut random = Random(seed);
        let gate: Vec<f32> = (0..len).map(|_| random.value() * 30.0).collect();
        let up = random.values(len);
        let mut reference = gate.clone();
        scalar().silu_mul(&mut reference, &up);
        for kernels in kernels_that_run() {
            let mut product = gate.clone();
            kernels.silu_mul(&mut product, &up);
            for (&product, &reference) in product.iter().zip(&reference) {
                assert_near(product, reference, reference.abs(), 1e-6);
            }
        }
    }
}

#[test]
fn silu_holds_at_the_ends() {
    for kernels in kernels_that_run() {
        let mut gate = [-1000.0, -100.0, 0.0, 100.0, 1000.0, f32::NAN];
        kernels.silu_mul(&mut gate, &[1.0; 6]);
        assert!(gate[0].abs() < 1e-30 && gate[1].abs() < 1e-30, "{gate:?}");
        assert_eq!(gate[2..5], [0.0, 100.0, 1000.0]);
        assert!(gate[5].is_nan());
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn exp_is_as_exact_as_it_says() {
    let arguments: Vec<f32> = (-873_300..883_700).map(|x| x as f32 * 1e-4).collect();
    let check = |exp: &dyn Fn(&mut [f32])| {
        let mut values = arguments.clone();
        exp(&mut values);
        for (&x, &value) in arguments.iter().zip(&values) {
            let exact = f64::from(x).exp();
            let error = (f64::from(value) - exact).abs() / exact;
            assert!(error < 2e-7, "e^{x} is {exact}, not {value}: off by {error}");
        }
        let mut ends = [0.0, -87.5, -1e9, f32::NEG_INFINITY, f32::NAN];
        exp(&mut ends);
        assert_eq!(ends[..4], [1.0, 0.0, 0.0, 0.0]);
        assert!(ends[4].is_nan());
    };
    if let Some(avx2) = vector::Avx2::new() {
        check(&|values| avx2.exp(values));
    }
    if let Some(avx512) = vector::Avx512::new() {
        check(&|values| avx512.exp(values));
    }
}

#[test]
fn kernels_say_what_they_are() {
    for kernels in kernels_that_run() {
        assert_eq!(Kernels::new(kernels.isa()).expect("as before").isa(), kernels.isa());
    }
}

#[test]
fn a_row_has_the_same_bits_among_more_than_a_band() {
    // More inputs than are rounded at once, and more panels than wait for the others.
    let given = Given::new(TensorType::Q4_1, 40, 4, 530, 4);
    for kernels in kernels_that_run().filter(|kernels| kernels.has_pairs()) {
        let together = given.products(kernels, 530, PAIRS);
        assert_eq!(given.products(kernels, 16, PAIRS), together, "{}", kernels.isa());
    }
}
