//! Biases.

use super::*;

#[test]
fn a_bias_is_added_to_every_row() {
    // Enough for two threads.
    let (rows, columns) = (40, 477);
    let x = Random(1).values(rows * columns);
    let bias = Random(2).values(columns);
    for threads in [1, 2] {
        let mut backend = backend(Kernels::detect(), threads);
        let tensor = tensor(&mut backend, &x, columns);
        let packed = backend.vector(&bias).unwrap();
        let sums = backend.add_bias(tensor, &packed).unwrap();
        let expected = x.chunks(columns).flat_map(|row| row.iter().zip(&bias).map(|(x, b)| x + b));
        assert_eq!(sums.as_slice(), expected.collect::<Vec<_>>());
    }
}
