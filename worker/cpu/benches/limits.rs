//! What this machine gives at most, to hold speeds against:
//!
//!     cargo bench -p shardrun-cpu --bench limits [-- --file-bytes N]
//!
//! Runs one thread on each core that it may use (`taskset -c 0,1` to choose) and prints JSON: memory
//! read in one stream a thread, from more than all caches hold and, with `--file-bytes`, again and
//! again from as much as a model's file has; multiply-adds in registers, two operations each, for each
//! instruction set that the processor has, the widest first. A rate is the best of many short
//! measurements; other processes only ever lower it.

use std::{env, fs, hint::black_box, process, sync::Barrier, thread, time::Instant};

/// Measurements of one rate.
const REPETITIONS: usize = 15;
/// Least memory of the stream that no cache holds.
const LEAST_BYTES: usize = 512 << 20;

fn main() {
    let cores = allowed_cores();
    let caches = LEAST_BYTES.max(4 * largest_cache());
    let mut probes = vec![probe("read", "memory", "GB/s", read(&cores, caches))];
    if let Some(bytes) = file_bytes() {
        probes.push(probe("read", "file", "GB/s", read(&cores, bytes)));
    }
    #[cfg(target_arch = "x86_64")]
    for (what, isa, rate) in arithmetic::rates(&cores) {
        probes.push(probe(what, isa, "GOP/s", rate));
    }
    println!("{{\"threads\": {}, \"probes\": [{}]}}", cores.len(), probes.join(", "));
}

fn probe(what: &str, with: &str, unit: &str, rate: f64) -> String {
    let rate = rate / 1e9;
    format!(
        "{{\"what\": \"{what}\", \"with\": \"{with}\", \"unit\": \"{unit}\", \"rate\": {rate:.2}}}"
    )
}

/// The number after `--file-bytes`.
fn file_bytes() -> Option<usize> {
    let value = env::args().skip_while(|arg| arg != "--file-bytes").nth(1)?;
    let Ok(bytes) = value.parse() else {
        eprintln!("--file-bytes is '{value}'; it takes a number");
        process::exit(2);
    };
    Some(bytes)
}

/// Bytes of the largest cache that the kernel tells of.
fn largest_cache() -> usize {
    let size = |index| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let text = fs::read_to_string(path).ok()?;
        text.trim().strip_suffix('K')?.parse::<usize>().ok()
    };
    (0..8).filter_map(size).max().unwrap_or(0) << 10
}

fn allowed_cores() -> Vec<usize> {
    // SAFETY: A set of zeros is a valid, empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: The set is valid for its size.
    let status = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    assert_eq!(status, 0, "sched_getaffinity: {}", std::io::Error::last_os_error());
    // SAFETY: The index is below the bits of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// Keeps this thread on one core; where that is refused, it measures wherever it is.
fn stay_on(core: usize) {
    // SAFETY: A set of zeros is a valid, empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: The core came out of such a set, so it is in range; the set is valid for its size.
    unsafe {
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
    }
}

/// The best rate at which a thread on each core does its `work` at the same time. `prepare` makes
/// what the work needs, on the core; a work returns how much it did.
fn together<T>(
    cores: &[usize],
    prepare: impl Fn() -> T + Sync,
    work: impl Fn(&mut T) -> f64 + Sync,
) -> f64 {
    let barrier = Barrier::new(cores.len());
    let runs = thread::scope(|scope| {
        let spawn = |&core| {
            let (barrier, prepare, work) = (&barrier, &prepare, &work);
            scope.spawn(move || {
                stay_on(core);
                let mut state = prepare();
                let mut run = || {
                    barrier.wait();
                    let began = Instant::now();
                    let amount = work(&mut state);
                    (began, Instant::now(), amount)
                };
                run(); // the first one warms up
                (0..REPETITIONS).map(|_| run()).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = cores.iter().map(spawn).collect();
        let join =
            |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("probes don't panic");
        threads.into_iter().map(join).collect::<Vec<Vec<(Instant, Instant, f64)>>>()
    });
    let rate = |repetition: usize| {
        let parts = || runs.iter().map(|thread| thread[repetition]);
        let began = parts().map(|(began, ..)| began).min().expect("there is a core");
        let ended = parts().map(|(_, ended, _)| ended).max().expect("there is a core");
        parts().map(|(.., amount)| amount).sum::<f64>() / (ended - began).as_secs_f64()
    };
    (0..REPETITIONS).map(rate).fold(0.0, f64::max)
}

/// Bytes a second that all cores read together, each an equal part of `bytes` from end to end.
fn read(cores: &[usize], bytes: usize) -> f64 {
    let words = bytes / cores.len() / size_of::<u64>();
    let prepare = || {
        let mut part: Vec<u64> = Vec::with_capacity(words);
        // Fewer misses of the TLB; where it is refused, pages are small.
        // SAFETY: What is advised about are whole pages of the allocation; no content changes.
        unsafe {
            let page = part.as_mut_ptr().map_addr(|address| address.next_multiple_of(4096));
            libc::madvise(
                page.cast(),
                (words * size_of::<u64>()).saturating_sub(4096),
                libc::MADV_HUGEPAGE,
            );
        }
        part.extend(0..words as u64);
        part
    };
    together(cores, prepare, |part| {
        black_box(sum(part));
        size_of_val(&part[..]) as f64
    })
}

/// Eight sums side by side, which compilers make vectors of.
fn sum(words: &[u64]) -> [u64; 8] {
    let mut sums = [0u64; 8];
    for eight in words.as_chunks::<8>().0 {
        for (sum, word) in sums.iter_mut().zip(eight) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
mod arithmetic {
    use std::arch::{asm, is_x86_feature_detected as has};

    use super::together;

    const LOOPS: usize = 300_000;
    /// Accumulators: no processor so far has more ports times latency of one of these instructions.
    const CHAINS: usize = 12;

    struct Probe {
        what: &'static str,
        isa: &'static str,
        /// A multiplication and an addition are two.
        operations: usize,
        runs: bool,
        chains: unsafe fn(),
    }

    /// What the processor has, and operations a second on all cores together.
    pub(super) fn rates(cores: &[usize]) -> Vec<(&'static str, &'static str, f64)> {
        let probe =
            |what, isa, operations, runs, chains| Probe { what, isa, operations, runs, chains };
        let avx2 = has!("avx2");
        let wide = avx2 && has!("avx512f");
        let probes = [
            probe("int8", "avx512vnni", 128, wide && has!("avx512vnni"), vnni_zmm as unsafe fn()),
            probe("int8", "avxvnni", 64, avx2 && has!("avxvnni"), vnni_ymm),
            probe("int8", "avx2", 64, avx2, pairs_ymm),
            probe("bf16", "avx512bf16", 64, wide && has!("avx512bf16"), bf16_zmm),
            probe("f32", "avx512f", 32, wide, f32_zmm),
            probe("f32", "avx2+fma", 16, avx2 && has!("fma"), f32_ymm),
        ];
        let found = probes.into_iter().filter(|probe| probe.runs);
        found.map(|probe| (probe.what, probe.isa, probe.rate(cores))).collect()
    }

    impl Probe {
        fn rate(&self, cores: &[usize]) -> f64 {
            together(
                cores,
                || (),
                |()| {
                    // SAFETY: Only probes that run here are asked for their rate.
                    unsafe { (self.chains)() };
                    (LOOPS * CHAINS * self.operations) as f64
                },
            )
        }
    }

    /// A function that does `$step` to each accumulator, `\\r`, `LOOPS` times. Register 12 of the
    /// width has `$pattern` in each lane of 32 bits; 13 is free.
    macro_rules! chains {
        ($name:ident, $width:literal, $pattern:literal, $step:literal) => {
            unsafe fn $name() {
                // SAFETY: Touches no memory and only registers that it names; that the processor has
                // the instructions is for the caller to know.
                unsafe {
                    asm!(
                        "vmovd xmm12, {pattern:e}",
                        concat!("vpbroadcastd ", $width, "12, xmm12"),
                        ".irp r,0,1,2,3,4,5,6,7,8,9,10,11",
                        "vpxor xmm\\r, xmm\\r, xmm\\r",
                        ".endr",
                        "2:",
                        ".irp r,0,1,2,3,4,5,6,7,8,9,10,11",
                        $step,
                        ".endr",
                        "dec {loops}",
                        "jnz 2b",
                        "vzeroupper",
                        pattern = in(reg) $pattern,
                        loops = inout(reg) LOOPS => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                        out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                        out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm13") _,
                        options(nomem, nostack),
                    );
                }
            }
        };
    }

    // Ones of each type, which no sum makes slow, as denormal numbers would.
    chains!(vnni_zmm, "zmm", 0x0101_0101_u32, "vpdpbusd zmm\\r, zmm12, zmm12");
    chains!(vnni_ymm, "ymm", 0x0101_0101_u32, "{{vex}} vpdpbusd ymm\\r, ymm12, ymm12");
    chains!(
        pairs_ymm,
        "ymm",
        0x0101_0101_u32,
        "vpmaddubsw ymm13, ymm12, ymm12\nvpmaddwd ymm13, ymm13, ymm12\nvpaddd ymm\\r, ymm\\r, ymm13"
    );
    chains!(bf16_zmm, "zmm", 0x3f80_3f80_u32, "vdpbf16ps zmm\\r, zmm12, zmm12");
    chains!(f32_zmm, "zmm", 0x3f80_0000_u32, "vfmadd231ps zmm\\r, zmm12, zmm12");
    chains!(f32_ymm, "ymm", 0x3f80_0000_u32, "vfmadd231ps ymm\\r, ymm12, ymm12");
}
