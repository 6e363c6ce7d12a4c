use half::bf16;

use super::*;
use crate::{
    matrix::SUB_BLOCK,
    testing::{Random, kernels_that_run},
};

/// All that there are for these kernels.
fn forms(kernels: Kernels) -> Forms {
    Forms { floats: true, quants: true, pairs: kernels.has_pairs() }
}

/// An operand of `values`, written in two parts.
fn operand(kernels: Kernels, values: &[Vec<f32>]) -> Operand {
    let columns = values.first().map_or(SUB_BLOCK, Vec::len);
    let workspace = Workspace::default();
    let forms = forms(kernels);
    let mut operand = Operand::new(&workspace, values.len(), columns, kernels, forms).unwrap();
    let writer = operand.writer();
    // Some rows at once, which need not be those of a panel.
    for (at, rows) in values.chunks(19).enumerate() {
        let rows = rows.concat();
        let count = rows.len() / columns;
        let rest =
            Rows::new(&rows[SUB_BLOCK.min(rows.len())..], count, columns - SUB_BLOCK, columns);
        // SAFETY: there is one thread.
        unsafe {
            writer.put(kernels, 19 * at, SUB_BLOCK, rest);
            writer.put(kernels, 19 * at, 0, Rows::new(&rows, count, SUB_BLOCK, columns));
        }
    }
    operand
}

/// The quants of all rows times their scales.
fn meant(panels: &QuantPanels) -> Vec<Vec<f32>> {
    let mut meant = Vec::new();
    for (rows, panel) in panels.panels() {
        let width = rows.len();
        for row in 0..width {
            let records = panel.chunks(TOKEN_BYTES * width);
            let row = records.flat_map(|record| {
                let word = |at: usize| -> [u8; 4] {
                    let first = width * (SUB_BLOCK + 4 * at) + 4 * row;
                    record[first..first + 4].try_into().unwrap()
                };
                let scale = f32::from_le_bytes(word(0));
                let quants = &record[row * SUB_BLOCK..][..SUB_BLOCK];
                let quants: Vec<i32> = quants.iter().map(|&q| i32::from(q.cast_signed())).collect();
                let sums = [&quants[..16], &quants[16..]].map(|half| half.iter().sum::<i32>());
                let total = (sums[0] + sums[1]) as f32 * scale;
                assert!(total.is_nan() || f32::from_le_bytes(word(1)) == total);
                assert_eq!(i32::from_le_bytes(word(2)), -128 * sums[0]);
                assert_eq!(i32::from_le_bytes(word(3)), -128 * sums[1]);
                quants.into_iter().map(move |quant| quant as f32 * scale).collect::<Vec<_>>()
            });
            meant.push(row.collect());
        }
    }
    meant
}

#[test]
fn what_is_put_is_in_the_panels() {
    for kernels in kernels_that_run() {
        for rows in 0..40 {
            let mut random = Random(rows as u64);
            let values: Vec<Vec<f32>> = (0..rows).map(|_| random.values(96)).collect();
            let operand = operand(kernels, &values);
            let mut next = 0;
            for (panel, numbers) in operand.floats().unwrap().panels() {
                assert_eq!(panel.start, next);
                assert!((1..=kernels.panel_rows()).contains(&panel.len()));
                for row in panel.clone() {
                    for column in 0..96 {
                        let number = numbers[column * panel.len() + row - panel.start];
                        assert_eq!(number, values[row][column]);
                    }
                }
                next = panel.end;
            }
            assert_eq!(next, rows);
            for (panel, words) in operand.pairs().iter().flat_map(|pairs| pairs.panels()) {
                for row in panel.clone() {
                    for (pair, word) in rounded(kernels, &values[row]).enumerate() {
                        assert_eq!(words[pair * panel.len() + row - panel.start], word);
                    }
                }
            }
            let meant = meant(operand.quants().unwrap());
            assert_eq!(meant.len(), rows);
            for (meant, values) in meant.iter().flatten().zip(values.iter().flatten()) {
                // Half a step of a 127th, values being below 1.
                assert!((meant - values).abs() <= 0.501 / 127.0, "{meant} for {values}");
            }
        }
    }
}

#[test]
fn all_instruction_sets_quantise_alike() {
    let mut random = Random(3);
    let mut values: Vec<Vec<f32>> = (0..7).map(|_| random.values(96)).collect();
    // Halves between two quants, nothing but zeros, hardly more, and one that rules all others out.
    values[0][..4].copy_from_slice(&[127.0, 2.5, 3.5, -0.5]);
    values[1][..32].fill(0.0);
    values[2][..32].fill(-1e-38);
    values[3][40] = 1e30;
    let first = operand(Kernels::new(crate::Isa::Scalar).unwrap(), &values);
    for kernels in kernels_that_run() {
        let operand = operand(kernels, &values);
        assert_eq!(meant(operand.quants().unwrap()), meant(first.quants().unwrap()));
    }
    let meant = meant(first.quants().unwrap());
    assert_eq!(meant[0][..4], [127.0, 2.0, 4.0, 0.0]);
    assert_eq!(meant[1][..32], [0.0; 32]);
    assert_eq!(meant[2][..32], [0.0; 32]);
    assert_eq!((meant[3][40], meant[3][41]), (1e30 / 127.0 * 127.0, 0.0));
}

#[test]
fn a_fault_upstream_stays_visible() {
    for kernels in kernels_that_run() {
        for fault in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 17, 31] {
                let mut values = vec![vec![1.0; 64]];
                values[0][place] = fault;
                let operand = operand(kernels, &values);
                let (_, panel) = operand.quants().unwrap().panels().next().unwrap();
                let scale = f32::from_le_bytes(panel[32..36].try_into().unwrap());
                assert!(scale.is_nan(), "{fault} at {place}: {scale}");
            }
        }
    }
}

/// The words of the pairs of a row.
fn rounded(kernels: Kernels, values: &[f32]) -> impl Iterator<Item = u32> {
    let order = kernels.pair_order();
    let half = move |block: usize, place: usize| {
        let value = values.get(block * SUB_BLOCK + order.column_at(place));
        u32::from(bf16::from_f32(value.copied().unwrap_or(0.0)).to_bits())
    };
    let place = |pair: usize| (2 * pair / SUB_BLOCK, 2 * pair % SUB_BLOCK);
    let places = (0..order.pairs(values.len())).map(place);
    places.map(move |(block, place)| half(block, place) | half(block, place + 1) << 16)
}

#[test]
fn pairs_are_rounded_and_what_is_not_there_is_zero() {
    let mut random = Random(5);
    let mut values = [random.values(101), random.values(101)];
    values[1][96..].copy_from_slice(&[1.0, -2.0, 1.0 + 2f32.powi(-8), f32::INFINITY, 3.0]);
    for kernels in kernels_that_run().filter(|kernels| kernels.has_pairs()) {
        let forms = Forms { floats: false, quants: false, pairs: true };
        let mut operand = Operand::new(&Workspace::default(), 2, 101, kernels, forms).unwrap();
        let writer = operand.writer();
        for (row, values) in values.iter().enumerate() {
            // SAFETY: there is one thread. In two parts, as fused layers write.
            unsafe {
                writer.put(kernels, row, 0, Rows::one(&values[..64]));
                writer.put(kernels, row, 64, Rows::one(&values[64..]));
            }
        }
        let (_, words) = operand.pairs().unwrap().panels().next().unwrap();
        for row in 0..2 {
            let words: Vec<u32> = words[row..].iter().step_by(2).copied().collect();
            assert_eq!(words, rounded(kernels, &values[row]).collect::<Vec<_>>());
        }
    }
}
