//! After the first iterations, an iteration allocates nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    num::NonZeroUsize,
    slice::from_ref,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use shardrun_comm::Solo;
use shardrun_cpu::{Activations, CpuBackend, CpuError, CpuOptions, Kernels, Matrix, Vector};
use shardrun_files::{MatrixView, TensorType};
use shardrun_model::{
    Backend, Batch, BlockCopy, CacheShape, CacheType, HeadShard, Rope, RopePairs, Span,
};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system's allocator's doing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HEADS: HeadShard =
    HeadShard { query_heads: 0..4, kv_heads: 0..2, queries_per_kv: 2, head_dim: 64 };

fn zeros(backend: &mut CpuBackend, rows: usize, columns: usize) -> Result<Matrix, CpuError> {
    let bytes = vec![0; TensorType::Q4_1.bytes(rows * columns)];
    let view = MatrixView::new(TensorType::Q4_1, rows, columns, &bytes).expect("sizes agree");
    backend.pack(&[view])
}

struct Layer {
    table: Matrix,
    qkv: Matrix,
    o: Matrix,
    gate_up: Matrix,
    down: Matrix,
    gain: Vector,
}

impl Layer {
    fn run(
        &self,
        backend: &mut CpuBackend,
        batch: &Batch,
        window: Option<NonZeroUsize>,
        best: &mut Vec<u32>,
    ) -> Result<(), CpuError> {
        backend.copy_blocks(&[BlockCopy { from: 3, to: 15 }])?;
        backend.begin(batch)?;
        let embedded = backend.embed(&self.table, 0)?;
        let x = backend.all_reduce(embedded)?;
        let h = backend.rms_norm(&x, &self.gain, 1e-5)?;
        let qkv = backend.linear(&h, &self.qkv)?;
        let mixed = backend.attention(
            0,
            qkv,
            &HEADS,
            &Rope { theta: 1e4, dims: 64, pairs: RopePairs::Neighbours },
            window,
        )?;
        let x = backend.linear_all_reduce_add(x, &mixed, &self.o)?;
        let h = backend.rms_norm(&x, &self.gain, 1e-5)?;
        let h = backend.gated_linear(&h, &self.gate_up)?;
        let x = backend.linear_all_reduce_add(x, &h, &self.down)?;
        let x = backend.sampled_rows(x)?;
        let h = backend.rms_norm(&x, &self.gain, 1e-5)?;
        let logits = backend.linear(&h, &self.table)?;
        assert_eq!(backend.read(&logits)?.len(), batch.sampled.len() * 512);
        best.clear();
        backend.best_columns(&h, &self.table, from_ref(&(0..512)), best)?;
        assert_eq!(*best, [0; 4], "all products are 0");
        Ok(())
    }
}

/// What an iteration allocates that is like those before it.
fn allocations(dtype: CacheType, window: Option<NonZeroUsize>) -> Result<usize, CpuError> {
    let options = CpuOptions {
        threads: 2,
        kernels: Kernels::detect(),
        activations: Activations::Int8,
        cores: None,
        spin: true,
    };
    let mut backend = CpuBackend::new(options, Box::new(Solo))?;
    backend.allocate_cache(CacheShape {
        layers: 1,
        kv_heads: 2,
        head_dim: 64,
        blocks: 16,
        tokens_per_block: 16,
        dtype,
    })?;
    let layer = Layer {
        table: zeros(&mut backend, 512, 256)?,
        qkv: zeros(&mut backend, 512, 256)?,
        o: zeros(&mut backend, 256, 256)?,
        gate_up: zeros(&mut backend, 1024, 256)?,
        down: zeros(&mut backend, 256, 512)?,
        gain: backend.vector(&[1.0; 256])?,
    };
    // Four sequences that take a token each.
    let at = |position: usize| Batch {
        tokens: vec![1, 2, 3, 4],
        spans: (0..4)
            .map(|at| Span { rows: at..at + 1, position, blocks: 4 * at..4 * at + 4 })
            .collect(),
        blocks: (0..16).collect(),
        sampled: vec![0, 1, 2, 3],
    };
    let mut best = Vec::new();
    for position in 40..43 {
        layer.run(&mut backend, &at(position), window, &mut best)?;
    }
    let batch = at(43);
    let before = ALLOCATIONS.load(SeqCst);
    layer.run(&mut backend, &batch, window, &mut best)?;
    Ok(ALLOCATIONS.load(SeqCst) - before)
}

#[test]
fn an_iteration_like_the_last_ones_allocates_nothing() -> Result<(), CpuError> {
    for dtype in CacheType::ALL {
        for window in [None, NonZeroUsize::new(20)] {
            assert_eq!(allocations(dtype, window)?, 0, "{dtype}, {window:?}");
        }
    }
    Ok(())
}
