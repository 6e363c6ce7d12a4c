//! The backend as a model sees it.

use std::{num::NonZeroUsize, ops::Range};

use shardrun_comm::Group;
use shardrun_files::MatrixView;
use shardrun_model::{Backend, Batch, BlockCopy, CacheShape, HeadShard, Rope};

use crate::{
    CpuError, Kernels, Matrix, Operand, Tensor, Vector, batch,
    cache::Cache,
    memory::Arena,
    operand::Forms,
    ops::{self, AttentionInput, Machine, RopeTable},
    pool::Pool,
    workspace::Workspace,
};

/// How a [`CpuBackend`] uses the machine.
#[derive(Clone, Debug)]
pub struct CpuOptions {
    /// Threads that compute, the one that calls the backend included; at least 1.
    pub threads: usize,
    /// The instruction set to use.
    pub kernels: Kernels,
    /// What matrices are multiplied with.
    pub activations: Activations,
    /// The core of each thread, or `None` to leave that to the system. The first is for the thread that
    /// makes the backend, which should be the one that uses it.
    pub cores: Option<Vec<usize>>,
    /// Whether waiting threads look for work for some hundred microseconds before they sleep. To be
    /// false where more threads than cores run.
    pub spin: bool,
}

/// What matrices are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activations {
    /// Quantised matrices with whole numbers of eight bits and a float32 scale for every 32 elements,
    /// others with float32.
    Int8,
    /// All of them with bfloat16, to which weights are rounded, too; what is not a normal number counts
    /// as 0. Needs kernels that [have pairs](Kernels::has_pairs).
    Bfloat16,
    /// All of them with float32: exact, and several times slower.
    Float32,
}

/// Runs one rank's share of a model on CPU cores.
///
/// Operations compute at once; the sum of a product is one chain of multiply-adds along the inputs,
/// so the bits of a row depend on nothing but the row, the weights, the options and the instruction set.
pub struct CpuBackend {
    pub(crate) machine: Machine,
    group: Box<dyn Group>,
    cache: Option<Cache>,
    batch: Batch,
    rope: RopeTable,
    /// What each rank gives to something that is gathered; kept for its memory.
    parts: Vec<Range<usize>>,
    arena: Arena,
    weight_bytes: usize,
    activations: Activations,
}

impl CpuBackend {
    /// Starts the threads. Activations are summed and gathered over `group`.
    ///
    /// # Errors
    /// If the options contradict each other, or a thread could not be started or pinned.
    pub fn new(options: CpuOptions, group: Box<dyn Group>) -> Result<Self, CpuError> {
        let (activations, kernels) = (options.activations, options.kernels);
        if activations == Activations::Bfloat16 && !kernels.has_pairs() {
            return Err(CpuError::NoBfloat16 { isa: kernels.isa() });
        }
        let pool = Pool::new(options.threads, options.cores.as_deref(), options.spin)?;
        Ok(Self {
            machine: Machine {
                kernels: options.kernels,
                forms: Forms::default(),
                pool,
                workspace: Workspace::default(),
            },
            activations: options.activations,
            group,
            cache: None,
            batch: Batch::default(),
            rope: RopeTable::default(),
            parts: Vec::new(),
            arena: Arena::default(),
            weight_bytes: 0,
        })
    }

    /// Bytes of all weights that were packed or uploaded.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }
}

impl Backend for CpuBackend {
    type Error = CpuError;
    type Matrix = Matrix;
    type Vector = Vector;
    type Tensor = Tensor;
    type Operand = Operand;

    fn pack(&mut self, parts: &[MatrixView<'_>]) -> Result<Matrix, CpuError> {
        let matrix = Matrix::pack(parts, &mut self.arena, &mut self.machine.pool)?;
        let forms = &mut self.machine.forms;
        match self.activations {
            Activations::Int8 => {
                forms.floats |= matrix.has_floats();
                forms.quants |= matrix.has_quants();
            }
            Activations::Bfloat16 => forms.pairs = true,
            Activations::Float32 => forms.floats = true,
        }
        self.weight_bytes += matrix.bytes();
        Ok(matrix)
    }

    fn vector(&mut self, values: &[f32]) -> Result<Vector, CpuError> {
        self.weight_bytes += size_of_val(values);
        Vector::new(values)
    }

    fn allocate_cache(&mut self, shape: CacheShape) -> Result<(), CpuError> {
        // What was checked against another cache doesn't hold for this one.
        self.batch.clear();
        self.cache = Some(Cache::new(shape)?);
        Ok(())
    }

    fn copy_blocks(&mut self, copies: &[BlockCopy]) -> Result<(), CpuError> {
        let cache = self.cache.as_mut().ok_or(CpuError::NoCache)?;
        ops::copy_blocks(&mut self.machine, cache, copies)
    }

    fn begin(&mut self, batch: &Batch) -> Result<(), CpuError> {
        let cache = self.cache.as_mut().ok_or(CpuError::NoCache)?;
        batch::check(batch, &cache.layout().shape)?;
        cache.used(&batch.blocks);
        batch::copy(batch, &mut self.batch);
        self.rope.forget();
        Ok(())
    }

    fn embed(&mut self, table: &Matrix, first_token: u32) -> Result<Tensor, CpuError> {
        ops::embed(&mut self.machine, &self.batch.tokens, table, first_token)
    }

    fn rms_norm(&mut self, x: &Tensor, gain: &Vector, epsilon: f32) -> Result<Operand, CpuError> {
        ops::rms_norm(&mut self.machine, x, gain, epsilon)
    }

    fn linear(&mut self, x: &Operand, w: &Matrix) -> Result<Tensor, CpuError> {
        ops::linear(&mut self.machine, x, w)
    }

    fn add_bias(&mut self, mut x: Tensor, bias: &Vector) -> Result<Tensor, CpuError> {
        ops::add_bias(&mut self.machine, &mut x, bias);
        Ok(x)
    }

    fn attention(
        &mut self,
        layer: usize,
        qkv: Tensor,
        heads: &HeadShard,
        rope: &Rope,
        window: Option<NonZeroUsize>,
    ) -> Result<Operand, CpuError> {
        let cache = self.cache.as_mut().ok_or(CpuError::NoCache)?;
        self.rope.prepare(rope, &self.batch);
        let (batch, rope) = (&self.batch, &self.rope);
        let input = AttentionInput { batch, layer, qkv: &qkv, heads, rope, window };
        let mixed = ops::attention(&mut self.machine, cache, &input)?;
        ops::operand(&mut self.machine, &mixed)
    }

    fn gated_linear(&mut self, x: &Operand, gate_up: &Matrix) -> Result<Operand, CpuError> {
        ops::gated_linear(&mut self.machine, x, gate_up)
    }

    fn all_reduce(&mut self, mut x: Tensor) -> Result<Tensor, CpuError> {
        self.group.all_reduce(x.as_mut_slice())?;
        Ok(x)
    }

    fn linear_all_reduce_add(
        &mut self,
        mut residual: Tensor,
        x: &Operand,
        w: &Matrix,
    ) -> Result<Tensor, CpuError> {
        if self.group.size() == 1 {
            ops::linear_add(&mut self.machine, &mut residual, x, w)?;
        } else {
            let mut partial = ops::linear(&mut self.machine, x, w)?;
            self.group.all_reduce(partial.as_mut_slice())?;
            ops::add(&mut self.machine, &mut residual, &partial);
        }
        Ok(residual)
    }

    fn sampled_rows(&mut self, x: Tensor) -> Result<Tensor, CpuError> {
        let sampled = &self.batch.sampled;
        let columns = x.columns();
        let mut rows = Tensor::new(&self.machine.workspace, sampled.len(), columns)?;
        for (place, &row) in rows.as_mut_slice().chunks_exact_mut(columns.max(1)).zip(sampled) {
            place.copy_from_slice(x.row(row as usize));
        }
        Ok(rows)
    }

    fn gather_columns(
        &mut self,
        part: Tensor,
        columns: &[Range<usize>],
    ) -> Result<Option<Tensor>, CpuError> {
        if self.group.size() == 1 {
            return Ok(Some(part));
        }
        if self.group.rank() != 0 {
            self.group.gather_columns(part.as_slice(), columns, &mut [])?;
            return Ok(None);
        }
        let total = columns.last().map_or(0, |last| last.end);
        let mut whole = Tensor::new(&self.machine.workspace, part.rows(), total)?;
        self.group.gather_columns(part.as_slice(), columns, whole.as_mut_slice())?;
        Ok(Some(whole))
    }

    fn best_columns(
        &mut self,
        x: &Operand,
        w: &Matrix,
        columns: &[Range<usize>],
        into: &mut Vec<u32>,
    ) -> Result<(), CpuError> {
        let (rows, ranks) = (x.rows(), self.group.size());
        let first = columns.get(self.group.rank()).map_or(0, |columns| columns.start);
        let mut found = ops::best(&mut self.machine, x, w, first)?;
        if ranks == 1 {
            ops::best_of_ranks(found.as_mut_slice(), rows, into);
            return Ok(());
        }
        let leads = self.group.rank() == 0;
        let room = if leads { ranks } else { 0 };
        let mut all = Tensor::new(&self.machine.workspace, room, 2 * rows)?;
        self.parts.clear();
        self.parts.extend((0..ranks).map(|rank| rank * 2 * rows..(rank + 1) * 2 * rows));
        self.group.gather_columns(found.as_slice(), &self.parts, all.as_mut_slice())?;
        if leads {
            ops::best_of_ranks(all.as_mut_slice(), rows, into);
        }
        Ok(())
    }

    fn read<'a>(&'a mut self, x: &'a Tensor) -> Result<&'a [f32], CpuError> {
        Ok(x.as_slice())
    }
}
