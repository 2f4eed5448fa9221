//! What is told in the end: tables, and the same numbers as JSON.
//!
//! Of each number the median of all rounds is told. A load that failed is told with its reason, in
//! the row its numbers would have had.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::failure::{Failure, system};
use crate::load::whole::Fact;
use crate::measure::Sample;

/// Between these the tables stand in the documentation.
const BEGIN: &str = "<!-- begin: written by bench --write-docs -->";
const END: &str = "<!-- end -->";

/// Who was measured.
pub(crate) struct Who {
    pub(crate) label: &'static str,
    pub(crate) version: String,
}

/// All that was measured; of each load, one outcome for each server, in the order of `who`.
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) date: String,
    pub(crate) method: String,
    pub(crate) who: Vec<Who>,
    pub(crate) rates: Vec<Row<Sample>>,
    pub(crate) facts: Vec<Row<Vec<Fact>>>,
}

pub(crate) struct Row<T> {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) outcomes: Vec<Result<T, String>>,
}

/// The median of each number on its own.
pub(crate) fn median_sample(samples: &[Sample]) -> Sample {
    let time = |of: fn(&Sample) -> Duration| median(samples.iter().map(of).collect());
    let rate: f64 = median(samples.iter().map(|s| Ordered(s.per_second)).collect()).0;
    Sample {
        per_second: rate,
        p50: time(|s| s.p50),
        p99: time(|s| s.p99),
        p999: time(|s| s.p999),
        server_cpu: time(|s| s.server_cpu),
        client_cpu: time(|s| s.client_cpu),
        others: median(samples.iter().map(|s| Ordered(s.others)).collect()).0,
        memory: samples.last().map(|s| s.memory).unwrap_or_default(),
    }
}

/// The median of each fact over rounds that tell the same ones.
pub(crate) fn median_facts(rounds: &[Vec<Fact>]) -> Vec<Fact> {
    let mut facts = rounds.first().cloned().unwrap_or_default();
    for (n, fact) in facts.iter_mut().enumerate() {
        let values = rounds.iter().filter_map(|round| round.get(n));
        fact.value = median(values.map(|f| Ordered(f.value)).collect()).0;
    }
    facts
}

/// A number that has a place among others.
#[derive(Clone, Copy, Default)]
struct Ordered(f64);

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Ordered {}
impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

fn median<T: Ord + Copy + Default>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

const RATE_COLUMNS: [&str; 11] = [
    "load",
    "server",
    "per second",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "server CPU µs",
    "client CPU µs",
    "RSS MiB",
    "× rate",
    "× less CPU",
];

impl Report {
    pub(crate) fn markdown(&self) -> String {
        let versions: Vec<String> =
            self.who.iter().map(|who| format!("{} {}", who.label, who.version)).collect();
        let mut text = format!(
            "{} · {} · {}\n\n{}\n",
            self.date,
            versions.join(" · "),
            self.machine,
            self.method
        );
        if !self.rates.is_empty() {
            text.push_str(&self.noise());
            text.push('\n');
            text.push_str(&table(&RATE_COLUMNS.map(str::to_owned), &self.rate_rows()));
        }
        if !self.facts.is_empty() {
            let mut columns = vec!["what".to_owned(), "unit".to_owned()];
            columns.extend(self.who.iter().map(|who| who.label.to_owned()));
            columns.push("× less".to_owned());
            text.push('\n');
            text.push_str(&table(&columns, &self.fact_rows()));
        }
        text
    }

    /// How much the machine had to do beside this.
    fn noise(&self) -> String {
        let samples = self.rates.iter().flat_map(|row| &row.outcomes).flatten();
        let shares: Vec<Ordered> = samples.map(|s| Ordered(s.others)).collect();
        let worst = shares.iter().max().copied().unwrap_or_default();
        format!(
            "Others took {:.0} % of a core in the median, {:.0} % at worst.\n",
            median(shares).0 * 100.0,
            worst.0 * 100.0
        )
    }

    fn rate_rows(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for row in &self.rates {
            for (n, outcome) in row.outcomes.iter().enumerate() {
                let first = if n == 0 { row.name } else { "" };
                let mut cells = vec![first.to_owned(), self.who[n].label.to_owned()];
                match outcome {
                    Ok(sample) => cells.extend(rate_cells(sample)),
                    Err(why) => cells.push(why.lines().next().unwrap_or_default().to_owned()),
                }
                if let (1, [Ok(etcd), Ok(retcd)]) = (n, &row.outcomes[..]) {
                    cells.push(ratio(retcd.per_second, etcd.per_second));
                    let cpu = |s: &Sample| s.server_cpu.as_secs_f64();
                    cells.push(ratio(cpu(etcd), cpu(retcd)));
                }
                cells.resize(RATE_COLUMNS.len(), String::new());
                rows.push(cells);
            }
        }
        rows
    }

    fn fact_rows(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for row in &self.facts {
            let told: Vec<Option<&Vec<Fact>>> =
                row.outcomes.iter().map(|o| o.as_ref().ok()).collect();
            let n_facts = told.iter().flatten().map(|facts| facts.len()).max().unwrap_or(0);
            for n in 0..n_facts {
                let facts = told.iter().map(|facts| facts.and_then(|facts| facts.get(n)));
                let facts: Vec<Option<&Fact>> = facts.collect();
                let Some(any) = facts.iter().flatten().next() else { continue };
                let mut cells = vec![any.what.clone(), any.unit.to_owned()];
                cells.extend(facts.iter().map(|f| f.map_or("—".to_owned(), |f| short(f.value))));
                cells.push(match facts[..] {
                    [Some(etcd), Some(retcd)] => ratio(etcd.value, retcd.value),
                    _ => String::new(),
                });
                rows.push(cells);
            }
            for (who, outcome) in self.who.iter().zip(&row.outcomes) {
                if let Err(why) = outcome {
                    let why = why.lines().next().unwrap_or_default();
                    let mut cells = vec![format!("{} ({}): {why}", row.name, who.label)];
                    cells.resize(self.who.len() + 3, String::new());
                    rows.push(cells);
                }
            }
        }
        rows
    }

    pub(crate) fn json(&self) -> Value {
        let who = |n: usize| self.who[n].label;
        let rates = self.rates.iter().map(|row| {
            let outcome = |(n, outcome): (usize, &Result<Sample, String>)| {
                (
                    who(n).to_owned(),
                    match outcome {
                        Ok(sample) => sample_json(sample),
                        Err(why) => json!({ "failed": why }),
                    },
                )
            };
            let servers: serde_json::Map<_, _> =
                row.outcomes.iter().enumerate().map(outcome).collect();
            json!({ "load": row.name, "doc": row.doc, "servers": servers })
        });
        let facts = self.facts.iter().map(|row| {
            let outcome = |(n, outcome): (usize, &Result<Vec<Fact>, String>)| {
                (
                    who(n).to_owned(),
                    match outcome {
                        Ok(facts) => facts.iter().map(fact_json).collect(),
                        Err(why) => json!({ "failed": why }),
                    },
                )
            };
            let servers: serde_json::Map<_, _> =
                row.outcomes.iter().enumerate().map(outcome).collect();
            json!({ "load": row.name, "doc": row.doc, "servers": servers })
        });
        json!({
            "date": self.date,
            "machine": self.machine,
            "method": self.method,
            "versions": self.who.iter().map(|w| (w.label.to_owned(), json!(w.version)))
                .collect::<serde_json::Map<_, _>>(),
            "rates": rates.collect::<Vec<_>>(),
            "facts": facts.collect::<Vec<_>>(),
        })
    }

    /// Puts the tables where the last ones stood.
    pub(crate) fn write_docs(&self, path: &Path) -> Result<(), Failure> {
        let text =
            fs::read_to_string(path).map_err(system(format!("reading {}", path.display())))?;
        let new = replace(&text, &self.markdown()).ok_or_else(|| {
            Failure::Usage(format!("{} lacks {BEGIN:?} or {END:?}", path.display()))
        })?;
        fs::write(path, new).map_err(system(format!("writing {}", path.display())))
    }
}

fn replace(text: &str, between: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{between}\n{END}{after}"))
}

fn rate_cells(sample: &Sample) -> Vec<String> {
    let ms = |time: Duration| short(time.as_secs_f64() * 1e3);
    let us = |time: Duration| short(time.as_secs_f64() * 1e6);
    vec![
        format!("{:.0}", sample.per_second),
        ms(sample.p50),
        ms(sample.p99),
        ms(sample.p999),
        us(sample.server_cpu),
        us(sample.client_cpu),
        short(sample.memory.resident as f64 / f64::from(1 << 20)),
    ]
}

fn sample_json(sample: &Sample) -> Value {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    json!({
        "per_second": sample.per_second,
        "p50_us": us(sample.p50),
        "p99_us": us(sample.p99),
        "p999_us": us(sample.p999),
        "server_cpu_us": us(sample.server_cpu),
        "client_cpu_us": us(sample.client_cpu),
        "others_share": sample.others,
        "rss_bytes": sample.memory.resident,
        "rss_anonymous_bytes": sample.memory.anonymous,
    })
}

fn fact_json(fact: &Fact) -> Value {
    json!({ "what": fact.what, "unit": fact.unit, "value": fact.value })
}

fn ratio(of: f64, to: f64) -> String {
    if to > 0.0 { format!("{:.2}", of / to) } else { String::new() }
}

/// Three digits that matter, without an exponent.
fn short(number: f64) -> String {
    match number {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n if n >= 1.0 => format!("{n:.2}"),
        n => format!("{n:.3}"),
    }
}

/// A table in Markdown that also reads well as it is: the first two columns are words.
fn table(columns: &[String], rows: &[Vec<String>]) -> String {
    let width = |n: usize| {
        let cells = rows.iter().filter_map(|row| row.get(n));
        let widest = cells.map(|cell| cell.chars().count()).max();
        widest.unwrap_or(0).max(columns[n].chars().count())
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).enumerate().map(|(n, (cell, width))| match n {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = widths.iter().enumerate().map(|(n, width)| match n {
        0 | 1 => "-".repeat(width + 2),
        _ => format!("{}:", "-".repeat(width + 1)),
    });
    let rule = format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{rule}{rows}", line(columns))
}

#[cfg(test)]
mod tests;
