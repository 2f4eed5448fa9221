//! What every method was asked and how it ended: `grpc_server_*`.
//!
//! Each pair of method and code has a counter from the start, as etcd's have, so that a rate is 0
//! before it is something.

use std::array;
use std::time::Duration;

use proto::error::Code;
use proto::method::Method;

use super::number::{Counter, Histogram, Scale};
use super::text::{Kind, Samples};

/// One method's numbers.
#[derive(Debug)]
struct Counts {
    started: Counter,
    received: Counter,
    sent: Counter,
    handled: [Counter; Code::ALL.len()],
}

/// What one thread has counted of one method.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub started: u64,
    pub received: u64,
    pub sent: u64,
    pub ended_well: u64,
}

impl Counted {
    pub fn is_empty(&self) -> bool {
        self.started == 0 && self.received == 0 && self.sent == 0 && self.ended_well == 0
    }
}

/// See the module.
#[derive(Debug)]
pub struct Grpc {
    /// In the order of [`Method::ALL`].
    methods: Vec<Counts>,
    /// How long calls took; kept only with `--metrics extensive`.
    took: Option<Vec<Histogram>>,
}

impl Grpc {
    pub(super) fn new(extensive: bool) -> Self {
        let counts = |_: &Method| Counts {
            started: Counter::default(),
            received: Counter::default(),
            sent: Counter::default(),
            handled: array::from_fn(|_| Counter::default()),
        };
        let histogram = |_: &Method| Histogram::new(Scale::USUAL_SECONDS);
        Self {
            methods: Method::ALL.iter().map(counts).collect(),
            took: extensive.then(|| Method::ALL.iter().map(histogram).collect()),
        }
    }

    #[inline]
    pub fn started(&self, method: Method) {
        self.methods[method as usize].started.inc();
    }

    #[inline]
    pub fn handled(&self, method: Method, code: Code) {
        self.methods[method as usize].handled[usize::from(code.number())].inc();
    }

    #[inline]
    pub fn msg_received(&self, method: Method) {
        self.methods[method as usize].received.inc();
    }

    #[inline]
    pub fn msg_sent(&self, method: Method) {
        self.methods[method as usize].sent.inc();
    }

    /// Adds what a thread has counted by itself.
    pub fn add(&self, method: Method, counted: Counted) {
        let counts = &self.methods[method as usize];
        counts.started.add(counted.started);
        counts.received.add(counted.received);
        counts.sent.add(counted.sent);
        counts.handled[usize::from(Code::Ok.number())].add(counted.ended_well);
    }

    /// Whether somebody wants to know how long calls take.
    #[inline]
    pub fn is_extensive(&self) -> bool {
        self.took.is_some()
    }

    #[inline]
    pub fn took(&self, method: Method, time: Duration) {
        if let Some(histograms) = &self.took {
            histograms[method as usize].observe(time);
        }
    }

    pub(super) fn render(&self, text: &mut String) {
        let help = "Calls that have ended, by the code they ended with.";
        let mut samples = Samples::new(text, "grpc_server_handled_total", Kind::Counter, help);
        for (method, counts) in Method::ALL.iter().zip(&self.methods) {
            for (code, n) in Code::ALL.iter().zip(&counts.handled) {
                let [name, service, kind] = labels(*method);
                let code = ("grpc_code", code.name());
                samples.number(&[code, name, service, kind], n.get() as f64);
            }
        }
        if let Some(took) = &self.took {
            let (name, help) = ("grpc_server_handling_seconds", "How long calls took.");
            let mut samples = Samples::new(text, name, Kind::Histogram, help);
            for (method, histogram) in Method::ALL.iter().zip(took) {
                samples.histogram(&labels(*method), histogram);
            }
        }
        self.counters(text, "msg_received_total", "Messages that came in.", |c| &c.received);
        self.counters(text, "msg_sent_total", "Messages that went out.", |c| &c.sent);
        self.counters(text, "started_total", "Calls that have begun.", |c| &c.started);
    }

    fn counters(
        &self,
        text: &mut String,
        name: &str,
        help: &str,
        of: impl Fn(&Counts) -> &Counter,
    ) {
        let name = format!("grpc_server_{name}");
        let mut samples = Samples::new(text, &name, Kind::Counter, help);
        for (method, counts) in Method::ALL.iter().zip(&self.methods) {
            samples.number(&labels(*method), of(counts).get() as f64);
        }
    }
}

fn labels(method: Method) -> [(&'static str, &'static str); 3] {
    [
        ("grpc_method", method.name()),
        ("grpc_service", method.service()),
        ("grpc_type", method.kind().name()),
    ]
}
