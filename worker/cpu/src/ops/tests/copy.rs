//! Copies of blocks of the cache.

use super::{attention::Setting, *};

/// Enough of a cache for three threads.
fn setting(dtype: CacheType) -> Setting {
    Setting::new(3, 0..9, 64, 16).stored_as(dtype)
}

#[test]
fn a_copied_block_gives_the_bits_of_its_original() {
    for dtype in CacheType::ALL {
        let setting = setting(dtype);
        // Blocks 2, 1, 0 of one, 5, 4, 3 of the other.
        let mut sequence = setting.sequence(48, 0, 1, 1);
        let other = setting.sequence(48, 3, 1, 2);
        for threads in [1, 3] {
            let mut backend = setting.backend(Kernels::detect(), threads);
            let run = |backend: &mut CpuBackend, sequence: &_, rows: Range<usize>| {
                let layer = |layer| setting.run_layer(layer, backend, &[(sequence, rows.clone())]);
                [0, 1].map(layer)
            };
            run(&mut backend, &other, 0..48);
            run(&mut backend, &sequence, 0..47);
            let last = run(&mut backend, &sequence, 47..48);
            // Block 2 by way of block 5, which is overwritten after that; block 1 straight.
            let copies = [(2, 5), (5, 8), (0, 5), (1, 9), (9, 9)];
            let copies = copies.map(|(from, to)| BlockCopy { from, to });
            backend.copy_blocks(&copies).unwrap();
            sequence.blocks = vec![8, 9, 5];
            let copied = run(&mut backend, &sequence, 47..48);
            assert!(copied == last, "{dtype}, {threads} threads");
            sequence.blocks = vec![2, 1, 0];
            assert!(run(&mut backend, &sequence, 47..48) == last, "{dtype}: originals");
            // Its block 5 is gone, blocks 4 and 3 are as they were.
            let mut neighbour = setting.backend(Kernels::detect(), 1);
            run(&mut neighbour, &other, 0..48);
            let windowed = setting.clone().seeing(32);
            let tail = |backend: &mut CpuBackend| windowed.run(backend, &[(&other, 47..48)]);
            assert!(tail(&mut backend) == tail(&mut neighbour), "{dtype}: neighbours");
        }
    }
}

#[test]
fn a_copy_beyond_the_cache_is_refused_and_nothing_is_copied() {
    let setting = setting(CacheType::F32);
    let sequence = setting.sequence(16, 0, 1, 3);
    let mut backend = setting.backend(Kernels::detect(), 1);
    let before = setting.run(&mut backend, &[(&sequence, 0..16)]);
    for (from, to, block) in [(1, 16, 16), (16, 1, 16), (u32::MAX, 1, u32::MAX)] {
        let copies = [BlockCopy { from: 1, to: 0 }, BlockCopy { from, to }];
        let error = backend.copy_blocks(&copies).unwrap_err().to_string();
        let expected = format!(
            "copy 1 names cache block {block}, which is not below 16, the blocks of the cache"
        );
        assert_eq!(error, expected);
    }
    backend.copy_blocks(&[]).unwrap();
    let after = setting.run(&mut backend, &[(&sequence, 15..16)]);
    assert!(before.ends_with(&after));
}
