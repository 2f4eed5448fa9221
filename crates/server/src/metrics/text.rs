//! The text that Prometheus reads, version 0.0.4.
//!
//! ```text
//! # HELP etcd_server_has_leader …
//! # TYPE etcd_server_has_leader gauge
//! etcd_server_has_leader 1
//! ```
//!
//! # Invariants
//!
//! - A family without a sample is not mentioned, as Go's client has it.
//! - Numbers look as Go prints them (`1.048576e+06`): they are part of the `le` label.

use std::fmt::Write as _;

use super::number::{Counter, Gauge, Histogram};

/// What a family is a family of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Labels and their values, by name in order.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// Collects the samples of one family; its head is written before the first.
pub(super) struct Samples<'a> {
    text: &'a mut String,
    name: &'a str,
    kind: Kind,
    help: &'a str,
    begun: bool,
}

impl<'a> Samples<'a> {
    pub(super) fn new(text: &'a mut String, name: &'a str, kind: Kind, help: &'a str) -> Self {
        Self { text, name, kind, help, begun: false }
    }

    pub(super) fn number(&mut self, labels: Labels<'_>, value: f64) {
        self.line("", labels, None, value);
    }

    pub(super) fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        for (end, n) in histogram.cumulated() {
            self.line("_bucket", labels, Some(&shown(end)), n as f64);
        }
        let count = histogram.count();
        self.line("_bucket", labels, Some("+Inf"), count as f64);
        self.line("_sum", labels, None, histogram.sum());
        self.line("_count", labels, None, count as f64);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, end: Option<&str>, value: f64) {
        self.begin();
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let mut opening = '{';
        for (label, value) in labels.iter().copied().chain(end.map(|end| ("le", end))) {
            self.text.push(opening);
            opening = ',';
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(value, self.text);
            self.text.push('"');
        }
        if opening == ',' {
            self.text.push('}');
        }
        self.text.push(' ');
        self.text.push_str(&shown(value));
        self.text.push('\n');
    }

    fn begin(&mut self) {
        if !self.begun {
            self.begun = true;
            let (name, kind) = (self.name, self.kind.name());
            writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {kind}", self.help)
                .expect("a String takes all");
        }
    }
}

/// What can be shown as a family.
pub(super) trait Family {
    const KIND: Kind;

    fn samples(&self, samples: &mut Samples<'_>);
}

impl Family for Counter {
    const KIND: Kind = Kind::Counter;

    fn samples(&self, samples: &mut Samples<'_>) {
        samples.number(&[], self.get() as f64);
    }
}

impl Family for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn samples(&self, samples: &mut Samples<'_>) {
        samples.number(&[], self.get() as f64);
    }
}

impl Family for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn samples(&self, samples: &mut Samples<'_>) {
        samples.histogram(&[], self);
    }
}

fn escape(value: &str, text: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

/// Go writes an exponent unless it lies between these, the second excluded.
const EXPONENT_MIN: i32 = -4;
const EXPONENT_END: i32 = 6;

/// A number as Go prints it: the shortest digits that tell it from all others.
pub(super) fn shown(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().expect("Rust wrote it");
    if (EXPONENT_MIN..EXPONENT_END).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_as_go_prints_them() {
        let examples = [
            (0.0, "0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (52.4288, "52.4288"),
            (819_200.0, "819200"),
            (1_048_576.0, "1.048576e+06"),
            (18_446_744_073_709_551_615.0, "1.8446744073709552e+19"),
            (-1.0, "-1"),
        ];
        for (value, text) in examples {
            assert_eq!(shown(value), text);
        }
    }

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        let mut text = String::new();
        let mut samples = Samples::new(&mut text, "m", Kind::Gauge, "Help.");
        samples.number(&[("a", "x\"}\n\\")], 1.0);
        assert_eq!(text, "# HELP m Help.\n# TYPE m gauge\nm{a=\"x\\\"}\\n\\\\\"} 1\n");
    }
}
