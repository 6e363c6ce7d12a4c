//! The Prometheus text format, version 0.0.4, read strictly.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};

/// One series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name, with the suffix that a histogram's series have.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// All that a scrape shows.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    samples: Vec<Sample>,
    types: BTreeMap<String, String>,
}

impl Exposition {
    /// Reads a scrape. Stricter than Prometheus: every family has a help and a type before its
    /// series, which stand together; no series is there twice; histograms are whole.
    ///
    /// # Errors
    /// Saying which line breaks which rule.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        ensure!(text.ends_with('\n'), "the last line has no end");
        let mut scrape = Self::default();
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            scrape
                .take(line, &mut helped, &mut family)
                .with_context(|| format!("in the line {line:?}"))?;
        }
        let series: BTreeSet<_> = scrape.samples.iter().map(|s| (&s.name, &s.labels)).collect();
        ensure!(series.len() == scrape.samples.len(), "a series is there twice");
        scrape.check_histograms()?;
        Ok(scrape)
    }

    fn take(
        &mut self,
        line: &str,
        helped: &mut BTreeSet<String>,
        family: &mut String,
    ) -> anyhow::Result<()> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').context("no help")?;
            ensure!(!help.is_empty() && helped.insert(name.to_owned()), "a second or empty help");
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("no type")?;
            ensure!(["counter", "gauge", "histogram"].contains(&kind), "an unknown type");
            ensure!(helped.contains(name), "a type without a help before");
            let first = self.types.insert(name.to_owned(), kind.to_owned()).is_none();
            ensure!(first, "a second type");
            name.clone_into(family);
            return Ok(());
        }
        let sample = sample(line)?;
        let suffix = sample.name.strip_prefix(family.as_str());
        let kind = self.types.get(family).map(String::as_str);
        let known = match suffix {
            Some("") => kind != Some("histogram"),
            Some("_bucket" | "_sum" | "_count") => kind == Some("histogram"),
            _ => false,
        };
        ensure!(known, "a series outside its family");
        self.samples.push(sample);
        Ok(())
    }

    fn check_histograms(&self) -> anyhow::Result<()> {
        for (name, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut buckets: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
            for sample in self.all(&format!("{name}_bucket")) {
                let mut labels = sample.labels.clone();
                let bound = labels.remove("le").with_context(|| format!("{name} lacks le"))?;
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse()? };
                buckets.entry(labels).or_default().push((bound, sample.value));
            }
            let counts: Vec<_> = self.all(&format!("{name}_count")).collect();
            ensure!(counts.len() == buckets.len() && !counts.is_empty(), "{name} is incomplete");
            ensure!(self.all(&format!("{name}_sum")).count() == counts.len(), "{name} lacks a sum");
            for count in counts {
                let buckets = buckets.get(&count.labels).with_context(|| name.clone())?;
                let rises = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
                ensure!(buckets.windows(2).all(rises), "{name}'s buckets: {buckets:?}");
                let last = buckets.last().copied();
                ensure!(last == Some((f64::INFINITY, count.value)), "{name}'s last: {last:?}");
            }
        }
        Ok(())
    }

    /// All series of a name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// The value of the one series of a name that has these labels, and maybe more.
    ///
    /// # Errors
    /// If there is none, or several.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> anyhow::Result<f64> {
        let has = |sample: &&Sample| {
            labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        };
        let found: Vec<&Sample> = self.all(name).filter(has).collect();
        match found[..] {
            [sample] => Ok(sample.value),
            _ => bail!("{} series are {name} {labels:?}", found.len()),
        }
    }
}

/// `name{label="value",...} number`.
fn sample(line: &str) -> anyhow::Result<Sample> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    let word = |text: &str, more: &str| {
        let first = text.chars().next().is_some_and(|c| !c.is_ascii_digit());
        first && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    ensure!(word(name, "_:"), "a strange name");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (key, after) = rest.split_once("=\"").context("a label without a value")?;
            ensure!(word(key, "_"), "a strange label");
            let (value, after) = quoted(after)?;
            ensure!(labels.insert(key.to_owned(), value).is_none(), "a label twice");
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = after.strip_prefix('}').context("labels without an end")?;
                    break;
                }
            }
        }
    }
    let number = rest.strip_prefix(' ').context("no space before the value")?;
    let value = match number {
        "+Inf" => f64::INFINITY,
        number => number.parse().context("the value is no number")?,
    };
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// A label's value up to its closing quote, unescaped, and what follows.
fn quoted(text: &str) -> anyhow::Result<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, char @ ('\\' | '"'))) => value.push(char),
                _ => bail!("an unknown escape"),
            },
            char => value.push(char),
        }
    }
    bail!("a label's value has no end")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total Help\n# TYPE a_total counter\na_total{x=\"1\\\"\"} 3\n\
                        # HELP h Help\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\n\
                        h_bucket{le=\"+Inf\"} 2\nh_sum 7.5\nh_count 2\n";

    #[test]
    fn what_is_right_is_read() {
        let scrape = Exposition::parse(GOOD).unwrap();
        assert_eq!(scrape.value("a_total", &[("x", "1\"")]).unwrap(), 3.0);
        assert_eq!(scrape.value("h_bucket", &[("le", "1")]).unwrap(), 1.0);
        assert!(scrape.value("h_bucket", &[]).is_err(), "there are two");
        assert!(scrape.value("b", &[]).is_err());
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (from, to) in [
            ("# HELP a_total Help\n", ""),
            ("# TYPE h histogram\n", "# TYPE h summary\n"),
            ("a_total{x=\"1\\\"\"} 3\n", "a_total{x=\"1\"} 3\na_total{x=\"1\"} 3\n"),
            ("a_total{x=\"1\\\"\"} 3\n", "b_total 3\n"),
            ("} 3", "}3"),
            ("} 3", "} three"),
            ("h_count 2", "h_count 3"),
            ("h_bucket{le=\"1\"} 1", "h_bucket{le=\"1\"} 4"),
            ("h_sum 7.5\n", ""),
            ("h_count 2\n", "h_count 2"),
            ("x=", "1x="),
        ] {
            let wrong = GOOD.replacen(from, to, 1);
            assert_ne!(wrong, GOOD);
            assert!(Exposition::parse(&wrong).is_err(), "{wrong}");
        }
    }
}
