//! Our server, as the rival is compared with.

use std::collections::BTreeSet;

use super::super::peer;
use super::sign::{Answer, Reader, Sign, answer, known};
use crate::{Connection, Event, Limits, Status, StreamId};

/// See the module.
pub(super) struct Ours {
    connection: Connection,
    pub(super) reader: Reader,
    /// Calls that were answered in full: how such a one ends is of no interest to anybody.
    answered: BTreeSet<StreamId>,
}

impl Ours {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            connection: peer::connection(limits),
            reader: Reader::default(),
            answered: BTreeSet::new(),
        }
    }

    /// What it does about these bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Sign> {
        let mut signs = Vec::new();
        self.connection.receive(bytes);
        loop {
            while let Some(event) = self.connection.poll() {
                self.on_event(event, &mut signs);
            }
            let output = peer::take_output(&mut self.connection, usize::MAX);
            if output.is_empty() {
                return signs;
            }
            self.reader.read(&output, &mut signs);
        }
    }

    fn on_event(&mut self, event: Event, signs: &mut Vec<Sign>) {
        let call = |stream: StreamId, method: crate::Method, metadata: &crate::Metadata| {
            let fields = [&metadata.token, &metadata.authorization, &metadata.client_api_version];
            let known = known(fields.map(|field| field.as_deref()), metadata.has_leader);
            Sign::Call { stream: stream.0, method: method.0, known }
        };
        match event {
            Event::Unary { stream, method, metadata, body } => {
                signs.push(call(stream, method, &metadata));
                signs.push(Sign::Message { stream: stream.0, body: body.to_vec() });
                signs.push(Sign::HalfClosed { stream: stream.0 });
                self.answer(stream, answer(stream.0, false));
            }
            Event::Opened { stream, method, metadata } => {
                signs.push(call(stream, method, &metadata));
                if answer(stream.0, true) == Answer::AtOnce {
                    self.connection.finish(stream, &Status::OK);
                }
            }
            Event::Message { stream, body } => {
                signs.push(Sign::Message { stream: stream.0, body: body.to_vec() });
            }
            Event::HalfClosed { stream } => {
                signs.push(Sign::HalfClosed { stream: stream.0 });
                self.answer(stream, answer(stream.0, true));
            }
            Event::Cancelled { stream, .. } if !self.answered.contains(&stream) => {
                signs.push(Sign::Gone { stream: stream.0 });
            }
            Event::Cancelled { .. } | Event::Drained { .. } | Event::DeadlineExceeded { .. } => {}
        }
    }

    fn answer(&mut self, stream: StreamId, answer: Answer) {
        if let Answer::AtTheEnd(size) = answer {
            self.answered.insert(stream);
            self.connection.send_message(stream, vec![b'a'; size]);
            self.connection.finish(stream, &Status::OK);
        }
    }
}
