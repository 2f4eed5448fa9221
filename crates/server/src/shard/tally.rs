//! What a shard counts of its calls, and hands over once a turn.
//!
//! A turn may answer a thousand calls of one method: they cost the shared counters one addition each,
//! not a thousand. Failures are rare, and counted at once.

use std::sync::Arc;

use proto::error::Code;
use proto::method::{Kind, Method};
use wire::Metadata;

use crate::engine::Engine;
use crate::metrics::{CallType, ClientVersion, Counted};

/// See the module.
pub(super) struct Tally {
    engine: Arc<Engine>,
    counted: Vec<Counted>,
    /// Methods with something to hand over.
    touched: Vec<Method>,
    requests: Vec<(ClientVersion, CallType, u64)>,
    /// Bytes of messages, without what gRPC puts around them.
    received_bytes: u64,
    sent_bytes: u64,
}

/// What a connection's client last said of itself: it rarely says anything else.
#[derive(Default)]
pub(super) struct Spoken {
    last: Option<(Arc<Metadata>, Option<ClientVersion>)>,
}

impl Tally {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        let counted = vec![Counted::default(); Method::ALL.len()];
        Self {
            engine,
            counted,
            touched: Vec::new(),
            requests: Vec::new(),
            received_bytes: 0,
            sent_bytes: 0,
        }
    }

    pub(super) fn started(&mut self, method: Method, spoken: &mut Spoken, said: &Arc<Metadata>) {
        self.of(method).started += 1;
        let how = match method.kind() {
            Kind::Unary => CallType::Unary,
            Kind::ServerStream | Kind::BidiStream => CallType::Stream,
        };
        let Some(version) = self.version(spoken, said) else { return };
        match self.requests.iter_mut().find(|(v, h, _)| (*v, *h) == (version, how)) {
            Some((_, _, n)) => *n += 1,
            None => self.requests.push((version, how, 1)),
        }
    }

    pub(super) fn received(&mut self, method: Method, len: usize) {
        self.of(method).received += 1;
        self.received_bytes += len as u64;
    }

    pub(super) fn sent(&mut self, method: Method, len: usize) {
        self.of(method).sent += 1;
        self.sent_bytes += len as u64;
    }

    pub(super) fn ended(&mut self, method: Method, code: Code) {
        if code == Code::Ok {
            self.of(method).ended_well += 1;
        } else {
            self.engine.metrics.grpc.handled(method, code);
            // etcd takes the refusal of a unary call for a message.
            self.of(method).sent += u64::from(method.kind() == Kind::Unary);
        }
    }

    /// Hands over what the turn has counted.
    pub(super) fn hand_over(&mut self) {
        let metrics = &self.engine.metrics;
        for method in self.touched.drain(..) {
            let counted = std::mem::take(&mut self.counted[method as usize]);
            metrics.grpc.add(method, counted);
        }
        metrics.grpc_received_bytes.add(std::mem::take(&mut self.received_bytes));
        metrics.grpc_sent_bytes.add(std::mem::take(&mut self.sent_bytes));
        for (version, how, n) in self.requests.drain(..) {
            metrics.client_requests.add(version, how, n);
        }
    }

    fn of(&mut self, method: Method) -> &mut Counted {
        let counted = &mut self.counted[method as usize];
        if counted.is_empty() {
            self.touched.push(method);
        }
        counted
    }

    /// `None` for what is no text: such a call is refused before it counts.
    fn version(&self, spoken: &mut Spoken, said: &Arc<Metadata>) -> Option<ClientVersion> {
        match &spoken.last {
            Some((last, version)) if Arc::ptr_eq(last, said) => *version,
            Some(_) | None => {
                let text = said.client_api_version.as_deref().map(std::str::from_utf8);
                let version = match text {
                    Some(Err(_)) => None,
                    Some(Ok(text)) => Some(self.engine.metrics.client_requests.version(Some(text))),
                    None => Some(self.engine.metrics.client_requests.version(None)),
                };
                spoken.last = Some((Arc::clone(said), version));
                version
            }
        }
    }
}
