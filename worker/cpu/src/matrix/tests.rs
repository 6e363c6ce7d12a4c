use super::*;
use crate::testing::{self, Stored};

fn pack(parts: &[&Stored]) -> Matrix {
    let views: Vec<MatrixView<'_>> = parts.iter().map(|part| part.view()).collect();
    Matrix::pack(&views, &mut Pool::new(2, None, false).unwrap()).unwrap()
}

#[test]
fn rows_come_back_as_the_file_means_them() {
    for tensor_type in testing::TYPES {
        for rows in [1, 15, 16, 17, 40] {
            let stored = Stored::random(tensor_type, rows, 96, 7);
            let matrix = pack(&[&stored]);
            for row in 0..rows {
                let mut values = vec![f32::NAN; 96];
                matrix.dequantise_row(row, &mut values);
                assert_eq!(values, stored.row(row), "{tensor_type:?} row {row} of {rows}");
            }
        }
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
        matrix.dequantise_row(row, &mut values);
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
            .flat_map(|(weights, outputs)| {
                weights.check();
                assert!(outputs.len() <= weights.groups * GROUP);
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
