use shardrun_files::TensorType;

use super::*;
use crate::testing::{self, Stored, kernels_that_run};

fn pack(parts: &[&Stored]) -> Matrix {
    let views: Vec<MatrixView<'_>> = parts.iter().map(|part| part.view()).collect();
    Matrix::pack(&views, &mut Arena::default(), &mut Pool::new(2, None, false).unwrap()).unwrap()
}

#[test]
fn rows_come_back_as_the_file_means_them() {
    for tensor_type in testing::TYPES {
        for rows in [1, 15, 16, 17, 40] {
            let stored = Stored::random(tensor_type, rows, 512, 7);
            let matrix = pack(&[&stored]);
            for kernels in kernels_that_run() {
                for row in 0..rows {
                    let mut values = vec![f32::NAN; 512];
                    matrix.dequantise_row(kernels, row, &mut values);
                    assert_eq!(values, stored.row(row), "{tensor_type} row {row} of {rows}");
                }
            }
        }
    }
}

#[test]
fn columns_may_be_cut_within_super_blocks() {
    for tensor_type in testing::TYPES {
        let stored = Stored::random(tensor_type, 18, 768, 8);
        for columns in [32..64, 224..544, 512..768] {
            let view = stored.view().columns_in(columns.clone()).unwrap();
            let mut pool = Pool::new(1, None, false).unwrap();
            let matrix = Matrix::pack(&[view], &mut Arena::default(), &mut pool).unwrap();
            for row in 0..18 {
                let mut values = vec![f32::NAN; columns.len()];
                matrix.dequantise_row(Kernels::detect(), row, &mut values);
                assert_eq!(values, stored.row(row)[columns.clone()], "{tensor_type} row {row}");
            }
        }
    }
}

#[test]
fn shares_are_of_about_as_many_bytes() {
    let parts =
        [Stored::random(TensorType::Q4_1, 320, 64, 1), Stored::random(TensorType::F32, 32, 64, 2)];
    let matrix = pack(&[&parts[0], &parts[1]]);
    // 20 groups of 640 bytes, then 2 of 4096.
    assert_eq!([0, 1].map(|thread| matrix.share(thread, 2)), [0..17, 17..22]);
    for threads in 1..40 {
        let mut next = 0;
        for thread in 0..threads {
            let share = matrix.share(thread, threads);
            assert_eq!(share.start, next);
            next = share.end;
        }
        assert_eq!(next, 22);
    }
}

#[test]
fn parts_of_different_types_are_stacked_in_order() {
    let types = [TensorType::Q4_1, TensorType::Q4_1, TensorType::Q8_0, TensorType::F32];
    let rows = [5, 30, 17, 0];
    let parts: Vec<Stored> = (0..4).map(|at| Stored::random(types[at], rows[at], 64, 3)).collect();
    let matrix = pack(&parts.iter().collect::<Vec<_>>());
    assert_eq!((matrix.outputs(), matrix.inputs()), (52, 64));
    // 35 rows of Q4_1 in three groups, 17 of Q8_0 in two.
    assert_eq!(matrix.groups(), 5);
    let expected = parts.iter().flat_map(|part| (0..part.view().rows()).map(|row| part.row(row)));
    for (row, expected) in expected.enumerate() {
        let mut values = vec![f32::NAN; 64];
        matrix.dequantise_row(Kernels::detect(), row, &mut values);
        assert_eq!(values, expected, "row {row}");
    }
}

#[test]
fn runs_tile_the_outputs_wherever_groups_are_cut() {
    let parts =
        [Stored::random(TensorType::Q4_1, 35, 32, 1), Stored::random(TensorType::Q8_0, 17, 32, 2)];
    let matrix = pack(&[&parts[0], &parts[1]]);
    for cut in 0..=matrix.groups() {
        let halves = [0..cut, cut..matrix.groups()];
        let outputs: Vec<usize> = halves
            .into_iter()
            .flat_map(|half| matrix.runs(half))
            .flat_map(|(run, outputs)| {
                let Run::Quants(weights) = run else { panic!("quantised groups") };
                weights.check();
                assert_eq!(outputs.len().div_ceil(GROUP), weights.groups);
                outputs
            })
            .collect();
        assert_eq!(outputs, (0..52).collect::<Vec<_>>());
    }
}

#[test]
fn a_matrix_may_be_empty() {
    let nothing = Stored::random(TensorType::Q4_1, 0, 64, 1);
    for matrix in [pack(&[]), pack(&[&nothing])] {
        assert_eq!((matrix.outputs(), matrix.groups()), (0, 0));
    }
}
