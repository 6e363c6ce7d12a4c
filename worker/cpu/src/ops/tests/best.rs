//! The likeliest tokens, against all logits.

use std::slice::from_ref;

use super::*;
use crate::testing::TYPES;

/// The first of the greatest numbers.
fn first_greatest(logits: &[f32]) -> u32 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (token, &logit) in logits.iter().enumerate() {
        if logit > best.0 {
            best = (logit, token as u32);
        }
    }
    best.1
}

#[test]
fn the_best_columns_are_those_of_the_logits() {
    let mut random = Random(41);
    let outputs = [1, 15, 16, 300, 517, 129, 1000];
    for (tensor_type, outputs) in TYPES.into_iter().zip(outputs.into_iter().cycle()) {
        let matrix = Stored::random(tensor_type, outputs, 256, random.bits());
        for kernels in kernels_that_run() {
            for (threads, activations) in [1, 3, 2].into_iter().zip(activations_of(kernels)) {
                for rows in [1, 2, 17, 40] {
                    let options = CpuOptions { activations, ..options(kernels, threads) };
                    let mut backend = CpuBackend::new(options, Box::new(Solo)).unwrap();
                    backend.allocate_cache(CACHE).unwrap();
                    let packed = backend.pack(&[matrix.view()]).unwrap();
                    let x = tensor(&mut backend, &random.values(rows * 256), 256);
                    let x = ops::operand(&mut backend.machine, &x).unwrap();
                    let logits = backend.linear(&x, &packed).unwrap();
                    let expected: Vec<u32> =
                        logits.as_slice().chunks(outputs).map(first_greatest).collect();
                    let mut best = vec![77];
                    backend.best_columns(&x, &packed, from_ref(&(0..outputs)), &mut best).unwrap();
                    assert_eq!(best[1..], expected, "{tensor_type} {kernels:?} {threads}");
                    assert_eq!(best[0], 77, "what was there stays");
                }
            }
        }
    }
}

#[test]
fn the_first_of_equals_wins_and_what_is_no_number_never_does() {
    let (nan, none) = (f32::NAN, f32::NEG_INFINITY);
    for kernels in kernels_that_run() {
        for (weights, expected) in [
            ([vec![1.0; 100], vec![2.0; 500]].concat(), 100),
            ([vec![nan; 333], vec![-5.0], vec![nan; 100], vec![-5.0; 9]].concat(), 333),
            ([vec![none; 20], vec![f32::MIN], vec![none; 20]].concat(), 20),
            (vec![nan; 50], 0),
            (vec![none; 50], 0),
        ] {
            let mut backend = backend(kernels, 2);
            let matrix = Stored::floats(&weights, 1);
            let packed = backend.pack(&[matrix.view()]).unwrap();
            let x = tensor(&mut backend, &[1.0, 1.0], 1);
            let x = ops::operand(&mut backend.machine, &x).unwrap();
            let mut best = Vec::new();
            backend.best_columns(&x, &packed, from_ref(&(0..weights.len())), &mut best).unwrap();
            assert_eq!(best, [expected; 2], "{kernels:?}");
        }
    }
}

#[test]
fn ranks_put_together_what_each_has_found() {
    // Three ranks: products of two rows, then the columns that they are of.
    let mut found =
        [[1.0, f32::NEG_INFINITY, 5.0, 0.0], [1.0, -3.0, 20.0, 21.0], [0.5, -3.0, 31.0, 30.0]]
            .concat();
    let mut best = vec![9];
    ops::best_of_ranks(&mut found, 2, &mut best);
    assert_eq!(best, [9, 5, 21]);
    let mut best = Vec::new();
    ops::best_of_ranks(&mut [], 0, &mut best);
    assert!(best.is_empty());
}
