//! Code for each number of rows of a panel, so that all sums stay in registers.

/// Repeats its body with every row below the number of rows, which is at most sixteen. Written out, since
/// the compiler doesn't unroll loops of such bodies, and only then do all sums stay in registers.
macro_rules! for_each_row {
    ($row:ident < $rows:ident $body:block) => {
        for_each_row!($row $rows $body 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($row:ident $rows:ident $body:block $($number:literal)*) => {
        $(if $number < $rows {
            let $row = $number;
            $body
        })*
    };
}

/// `for_rows!(rows, C => call)` makes the call with `C` the number of rows, from 1 to 16.
macro_rules! for_rows {
    ($rows:expr, $count:ident => $call:expr) => {
        for_rows!($rows, $count, $call, 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    ($rows:expr, $count:ident, $call:expr, $($number:literal)*) => {
        match $rows {
            $($number => {
                const $count: usize = $number;
                $call
            })*
            rows => unreachable!("a panel of {rows} rows"),
        }
    };
}
