//! Slurm's host lists: `n[1-3,7],gpu-[001-010]x[1-2]`.
//!
//! The rules are those of `scontrol show hostnames`, read from what Slurm 22.05 does: a number keeps
//! the width that the lower end of its range is written with, a bracket may only be followed by
//! another part of the same name that ends in a bracket, and duplicates stay.

use std::fmt::Write as _;

use crate::SlurmError;
use crate::error::excerpt;

/// How many hosts a list may have; Slurm itself refuses longer ranges.
pub const MAX_HOSTS: usize = 65_536;
/// How long a host's name may be.
const MAX_NAME_BYTES: usize = 255;
/// Digits that surely fit a `u64`.
const MAX_DIGITS: usize = 18;

/// The hosts of a list, in Slurm's order, which is the order of nodes in a job. An empty list has
/// none.
///
/// # Errors
///
/// [`SlurmError::BadHostlist`] if Slurm would refuse the list, or if it has more than [`MAX_HOSTS`]
/// hosts.
pub fn expand(list: &str) -> Result<Vec<String>, SlurmError> {
    let mut hosts = Vec::new();
    entries(list)
        .and_then(|entries| {
            for entry in entries {
                Pattern::parse(entry)?.expand(&mut hosts)?;
            }
            Ok(())
        })
        .map_err(|problem| SlurmError::BadHostlist { list: excerpt(list), problem })?;
    Ok(hosts)
}

/// The shortest list that Slurm would write for these hosts in this order: numbers that follow each
/// other become ranges. `hosts` are names, without brackets and commas.
#[must_use]
pub fn compress<S: AsRef<str>>(hosts: &[S]) -> String {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for host in hosts {
        let (prefix, numeral) = split_numeral(host.as_ref());
        match groups.last_mut() {
            Some(group) if !numeral.is_empty() && group.prefix == prefix && group.numbered() => {
                group.add(numeral);
            }
            _ => groups.push(Group::new(prefix, numeral)),
        }
    }
    let groups: Vec<_> = groups.iter().map(Group::text).collect();
    groups.join(",")
}

/// Splits a list at its commas and blanks, brackets kept whole.
fn entries(list: &str) -> Result<Vec<&str>, String> {
    let (mut entries, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, c) in list.char_indices() {
        match c {
            '[' if inside => return Err("a bracket within a bracket".to_owned()),
            '[' => inside = true,
            ']' if !inside => return Err("a closing bracket that nothing opened".to_owned()),
            ']' => inside = false,
            ',' | ' ' | '\t' | '\n' if !inside => {
                entries.push(&list[start..at]);
                start = at + 1;
            }
            _ if c.is_control() => return Err(format!("the character {c:?}")),
            _ => {}
        }
    }
    if inside {
        return Err("a bracket that is not closed".to_owned());
    }
    entries.push(&list[start..]);
    entries.retain(|entry| !entry.is_empty());
    Ok(entries)
}

/// `1-3` or `007`.
#[derive(Clone, Copy, Debug)]
struct Range {
    low: u64,
    high: u64,
    /// Zeros are put before a number until it is so wide.
    width: usize,
}

impl Range {
    fn parse(text: &str) -> Result<Self, String> {
        let number = |digits: &str| match digits.len() {
            1..=MAX_DIGITS => digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse()),
            _ => None,
        };
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        match (number(low), number(high)) {
            (Some(Ok(first)), Some(Ok(last))) if first <= last => {
                Ok(Self { low: first, high: last, width: low.len() })
            }
            _ => Err(format!("{:?} is not a range of numbers", excerpt(text))),
        }
    }

    fn len(self) -> usize {
        usize::try_from(self.high - self.low).map_or(usize::MAX, |more| more.saturating_add(1))
    }

    fn push(self, number: u64, name: &mut String) {
        let width = self.width;
        write!(name, "{number:0width$}").expect("a string takes everything");
    }
}

/// A name with brackets in it: `gpu-[001-010]x[1-2]`.
#[derive(Debug)]
struct Pattern<'a> {
    /// What stands before each bracket, and the bracket.
    parts: Vec<(&'a str, Vec<Range>)>,
    /// The name, if it has no brackets.
    plain: &'a str,
}

impl<'a> Pattern<'a> {
    fn parse(entry: &'a str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), entry);
        while let Some((before, bracket)) = rest.split_once('[') {
            let (ranges, after) = bracket.split_once(']').ok_or("a bracket that is not closed")?;
            parts.push((before, ranges.split(',').map(Range::parse).collect::<Result<_, _>>()?));
            rest = after;
        }
        if !parts.is_empty() && !rest.is_empty() {
            return Err(format!("{:?} follows a bracket", excerpt(rest)));
        }
        Ok(Self { parts, plain: rest })
    }

    fn expand(&self, hosts: &mut Vec<String>) -> Result<(), String> {
        let sizes: Vec<usize> = self.parts.iter().map(|(_, ranges)| size(ranges)).collect();
        let count = sizes.iter().fold(1, |count: usize, &size| count.saturating_mul(size));
        if count > MAX_HOSTS - hosts.len().min(MAX_HOSTS) {
            return Err(format!("more than {MAX_HOSTS} hosts"));
        }
        for index in 0..count {
            let name = self.name(&sizes, index);
            if name.len() > MAX_NAME_BYTES {
                return Err(format!("a name of more than {MAX_NAME_BYTES} bytes"));
            }
            hosts.push(name);
        }
        Ok(())
    }

    /// The host at `index`. Slurm's last bracket runs fastest, then the first, the second and so on.
    fn name(&self, sizes: &[usize], index: usize) -> String {
        let last = sizes.len().saturating_sub(1);
        let mut places = vec![0; sizes.len()];
        let mut rest = index;
        for part in std::iter::once(last).filter(|_| !sizes.is_empty()).chain(0..last) {
            places[part] = rest % sizes[part];
            rest /= sizes[part];
        }
        let mut name = String::new();
        for ((before, ranges), place) in self.parts.iter().zip(places) {
            name.push_str(before);
            let (range, number) = nth(ranges, place);
            range.push(number, &mut name);
        }
        name.push_str(self.plain);
        name
    }
}

fn size(ranges: &[Range]) -> usize {
    ranges.iter().fold(0, |size: usize, range| size.saturating_add(range.len()))
}

/// The number at `place` of a bracket, with its range.
fn nth(ranges: &[Range], mut place: usize) -> (Range, u64) {
    for range in ranges {
        if place < range.len() {
            return (*range, range.low + place as u64);
        }
        place -= range.len();
    }
    unreachable!("a place is less than the size of its bracket")
}

/// A name, and the digits at its end, as many as fit a number.
fn split_numeral(host: &str) -> (&str, &str) {
    let digits = host.bytes().rev().take(MAX_DIGITS).take_while(u8::is_ascii_digit).count();
    host.split_at(host.len() - digits)
}

/// Hosts that follow each other and differ in their number only.
#[derive(Debug)]
struct Group<'a> {
    prefix: &'a str,
    ranges: Vec<Range>,
}

impl<'a> Group<'a> {
    fn new(prefix: &'a str, numeral: &str) -> Self {
        let mut group = Self { prefix, ranges: Vec::new() };
        if !numeral.is_empty() {
            group.add(numeral);
        }
        group
    }

    fn numbered(&self) -> bool {
        !self.ranges.is_empty()
    }

    fn add(&mut self, numeral: &str) {
        let range = Range::parse(numeral).expect("a numeral is a short row of digits");
        if let Some(last) = self.ranges.last_mut()
            && range.low == last.high + 1
        {
            let width = last.width;
            if numeral == format!("{:0width$}", range.low) {
                last.high = range.low;
                return;
            }
        }
        self.ranges.push(range);
    }

    fn text(&self) -> String {
        let mut numbers = String::new();
        for range in &self.ranges {
            if !numbers.is_empty() {
                numbers.push(',');
            }
            range.push(range.low, &mut numbers);
            if range.high > range.low {
                numbers.push('-');
                range.push(range.high, &mut numbers);
            }
        }
        match size(&self.ranges) {
            0 | 1 => format!("{}{numbers}", self.prefix),
            _ => format!("{}[{numbers}]", self.prefix),
        }
    }
}

#[cfg(test)]
mod tests;
