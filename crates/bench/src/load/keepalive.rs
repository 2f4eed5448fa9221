//! Leases kept alive: each connection has one stream, on which answers come in the order of the
//! requests, as etcd's clients keep their leases.

use std::collections::VecDeque;

use proto::Method;
use proto::etcdserverpb::{LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest};
use proto::prost::Message;

use super::messages::Messages;
use crate::call::call;
use crate::failure::Failure;
use crate::fleet::Load;
use crate::histogram::Histogram;
use crate::http2::{Event, Session};
use crate::measure::{Measured, Pace, SETUP_MAX};
use crate::process::Server;

/// Longer than any run, so that no lease expires in one.
const TTL_SECONDS: i64 = 100_000;

/// One connection: its leases, and when each request under way was sent.
#[derive(Default)]
struct Lane {
    is_open: bool,
    requests: Vec<Vec<u8>>,
    next: usize,
    sent: VecDeque<u64>,
    answers: Messages,
}

pub(crate) struct KeepAlive {
    lanes: Vec<Lane>,
    latency: Histogram,
    is_stopped: bool,
}

impl KeepAlive {
    /// Grants each connection as many leases as it will have requests under way.
    pub(crate) fn prepare(
        server: &Server,
        n_connections: usize,
        in_flight: usize,
    ) -> Result<Self, Failure> {
        let mut lanes = Vec::new();
        for _ in 0..n_connections {
            let mut lane = Lane::default();
            for _ in 0..in_flight {
                let grant = LeaseGrantRequest { ttl: TTL_SECONDS, ..Default::default() };
                let granted: LeaseGrantResponse =
                    call(server.address, Method::LeaseGrant, &grant, SETUP_MAX)?;
                let request = LeaseKeepAliveRequest { id: granted.id };
                lane.requests.push(request.encode_to_vec());
            }
            lanes.push(lane);
        }
        Ok(Self { lanes, latency: Histogram::new(), is_stopped: false })
    }
}

impl Load for KeepAlive {
    fn on_event(&mut self, at: usize, event: Event<'_>, now: u64) -> Result<(), Failure> {
        let (lane, latency) = (&mut self.lanes[at], &mut self.latency);
        match event {
            Event::Data { bytes, .. } => lane.answers.feed(bytes, |_| {
                let sent = lane.sent.pop_front().ok_or(Failure::Wrong("a keepalive too many"))?;
                latency.record(now.saturating_sub(sent));
                Ok(())
            }),
            Event::Ended { outcome, .. } => {
                Err(Failure::Refused { doing: "keeping leases alive", outcome })
            }
        }
    }

    fn on_settled(&mut self, at: usize, session: &mut Session, now: u64) {
        let lane = &mut self.lanes[at];
        if !lane.is_open {
            session.open(Method::LeaseKeepAlive);
            lane.is_open = true;
        }
        while !self.is_stopped && lane.sent.len() < lane.requests.len() {
            let request = &lane.requests[lane.next];
            if !session.may_send(request) {
                return;
            }
            session.send(request);
            lane.sent.push_back(now);
            lane.next = (lane.next + 1) % lane.requests.len();
        }
    }
}

impl Measured for KeepAlive {
    fn latency(&mut self) -> &mut Histogram {
        &mut self.latency
    }

    fn pace(&mut self, _: u64) -> Pace {
        Pace::Answers
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }

    fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.sent.is_empty())
    }
}
