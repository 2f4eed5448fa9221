//! The frames that are about the connection: settings, pings, windows, resets, goodbyes.

use super::clock::Pace;
use super::{Checked, Connection, Fault, Phase, frame_size_error, protocol_error};
use crate::budget::Expense;
use crate::frame::{self, ErrorCode, Header, StreamId, WINDOW_MAX, u31};
use crate::stream::Ending;

impl Connection {
    /// Queues our side's preface.
    pub(super) fn greet(&mut self) {
        let limits = &self.limits;
        let mut settings = vec![
            (frame::SETTING_FRAME_SIZE, limits.frame_size_max),
            (frame::SETTING_WINDOW, limits.stream_window),
            (frame::SETTING_HEADER_LIST, limits.header_list_size_max as u32),
        ];
        if limits.streams_max != u32::MAX {
            settings.push((frame::SETTING_STREAMS, limits.streams_max));
        }
        if limits.table_size_max != crate::response::TABLE_SIZE_DEFAULT as usize {
            settings.push((frame::SETTING_TABLE_SIZE, limits.table_size_max as u32));
        }
        let more = self.receive_window as u32 - frame::WINDOW_DEFAULT;
        let out = self.output.buffer();
        frame::put_settings(out, &settings);
        if more > 0 {
            frame::put_window_update(out, StreamId(0), more);
        }
    }

    pub(super) fn on_settings(&mut self, header: Header, payload: &[u8]) -> Checked {
        if header.stream != StreamId(0) {
            return Err(protocol_error("settings on a stream"));
        }
        if header.has(frame::ACK) {
            if self.phase == Phase::Settings {
                return Err(protocol_error("settings must come first"));
            }
            if !payload.is_empty() {
                return Err(frame_size_error());
            }
            let awaited = self.clock.settings_acknowledged();
            return if awaited { Ok(()) } else { self.spend(Expense::IdleFrame) };
        }
        let (settings, []) = payload.as_chunks::<6>() else { return Err(frame_size_error()) };
        self.spend(Expense::Settings)?;
        for [id0, id1, value @ ..] in settings {
            self.on_setting(u16::from_be_bytes([*id0, *id1]), u32::from_be_bytes(*value))?;
        }
        if self.phase == Phase::Settings {
            self.phase = Phase::Open;
        }
        frame::put_settings_ack(self.output.buffer());
        self.pump();
        Ok(())
    }

    fn on_setting(&mut self, id: u16, value: u32) -> Checked {
        match id {
            frame::SETTING_TABLE_SIZE => self.blocks.on_table_size(value),
            frame::SETTING_ENABLE_PUSH if value > 1 => {
                return Err(protocol_error("ENABLE_PUSH is neither 0 nor 1"));
            }
            frame::SETTING_WINDOW => return self.on_stream_window(i64::from(value)),
            frame::SETTING_FRAME_SIZE => {
                if !(frame::FRAME_SIZE_DEFAULT..=frame::FRAME_SIZE_CEILING).contains(&value) {
                    return Err(protocol_error("MAX_FRAME_SIZE out of range"));
                }
                self.peer.frame_size = value as usize;
            }
            _ => {} // Unknown settings are to be ignored; the rest bind servers that we are not.
        }
        Ok(())
    }

    /// The peer changes what may be sent on each stream, those already open included.
    fn on_stream_window(&mut self, window: i64) -> Checked {
        let overflow = Fault::Connection(ErrorCode::FlowControl, "a window too large");
        if window > WINDOW_MAX {
            return Err(overflow);
        }
        let change = window - self.peer.stream_window;
        self.peer.stream_window = window;
        for stream in self.streams.iter_mut() {
            stream.send_window += change;
            if stream.send_window > WINDOW_MAX {
                return Err(overflow);
            }
        }
        // Those that were waiting for it get in line, in the order of their numbers.
        for id in self.streams.ids(|stream| stream.outbox.is_some() && stream.send_window > 0) {
            self.make_ready(id);
        }
        Ok(())
    }

    pub(super) fn on_window_update(&mut self, header: Header, payload: &[u8]) -> Checked {
        let Ok(increment) = payload.try_into().map(u31) else { return Err(frame_size_error()) };
        self.spend(Expense::WindowUpdate)?;
        let increment = i64::from(increment);
        if header.stream == StreamId(0) {
            self.peer.window += increment;
            if increment == 0 {
                return Err(protocol_error("a window grows by nothing"));
            }
            if self.peer.window > WINDOW_MAX {
                return Err(Fault::Connection(ErrorCode::FlowControl, "a window too large"));
            }
            self.pump();
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(header.stream) else {
            return self.check_not_idle(header.stream);
        };
        if increment == 0 {
            return Err(Fault::Stream(header.stream, ErrorCode::Protocol));
        }
        stream.send_window += increment;
        if stream.send_window > WINDOW_MAX {
            return Err(Fault::Stream(header.stream, ErrorCode::FlowControl));
        }
        if stream.outbox.is_some() && stream.send_window > 0 {
            self.make_ready(header.stream);
            self.pump();
        }
        Ok(())
    }

    pub(super) fn on_reset(&mut self, header: Header, payload: &[u8]) -> Checked {
        if payload.len() != 4 {
            return Err(frame_size_error());
        }
        if header.stream == StreamId(0) {
            return Err(protocol_error("a reset of no stream"));
        }
        self.check_not_idle(header.stream)?;
        self.spend(Expense::Reset)?;
        if self.streams.get(header.stream).is_some() {
            self.remove(header.stream, Ending::Over);
        }
        Ok(())
    }

    pub(super) fn on_ping(&mut self, header: Header, payload: &[u8]) -> Checked {
        let Ok(data) = payload.try_into() else { return Err(frame_size_error()) };
        if header.stream != StreamId(0) {
            return Err(protocol_error("a ping on a stream"));
        }
        if header.has(frame::ACK) {
            if data == DRAIN_PING && self.phase == Phase::Draining {
                self.name_last_stream();
                return Ok(());
            }
            return self.spend(Expense::IdleFrame);
        }
        frame::put_ping(self.output.buffer(), frame::ACK, data);
        match self.clock.on_ping(&self.limits, self.streams.is_empty()) {
            Pace::Forgiven => Ok(()),
            Pace::Counted => self.spend(Expense::Ping),
            Pace::TooFast => Err(Fault::Connection(ErrorCode::EnhanceYourCalm, "too_many_pings")),
        }
    }

    pub(super) fn on_priority(&mut self, header: Header, payload: &[u8]) -> Checked {
        if header.stream == StreamId(0) {
            return Err(protocol_error("a priority of no stream"));
        }
        self.spend(Expense::IdleFrame)?;
        if payload.len() != 5 {
            return Err(Fault::Stream(header.stream, ErrorCode::FrameSize));
        }
        Ok(())
    }

    /// The client will open no more streams. It closes the connection when it is done.
    pub(super) fn on_go_away(&mut self, header: Header, payload: &[u8]) -> Checked {
        if header.stream != StreamId(0) {
            return Err(protocol_error("a goodbye on a stream"));
        }
        if payload.len() < 8 {
            return Err(frame_size_error());
        }
        self.spend(Expense::IdleFrame)
    }

    /// A stream the client has not opened yet can't be the subject of most frames.
    pub(super) fn check_not_idle(&self, stream: StreamId) -> Checked {
        if stream > self.last_stream || stream.0.is_multiple_of(2) {
            return Err(protocol_error("a frame for a stream never opened"));
        }
        Ok(())
    }

    /// Asks the client to go elsewhere. What runs is finished, then the connection closes.
    ///
    /// The first GOAWAY names no stream, for requests may be on their way; the ping after it comes
    /// back when those have arrived, and then the second GOAWAY names the last.
    pub fn drain(&mut self) {
        match self.phase {
            Phase::Preface { .. } | Phase::Settings => self.end(ErrorCode::NoError, ""),
            Phase::Open => {
                self.phase = Phase::Draining;
                self.clock.drain_began();
                let last = StreamId(WINDOW_MAX as u32);
                let out = self.output.buffer();
                frame::put_go_away(out, last, ErrorCode::NoError, "graceful_stop");
                frame::put_ping(out, 0, DRAIN_PING);
            }
            Phase::Draining | Phase::Drained | Phase::Closed => {}
        }
    }

    pub(super) fn name_last_stream(&mut self) {
        self.phase = Phase::Drained;
        let out = self.output.buffer();
        frame::put_go_away(out, self.last_stream, ErrorCode::NoError, "");
        if self.streams.is_empty() {
            self.phase = Phase::Closed;
        }
    }
}

/// What the ping of a drain carries.
const DRAIN_PING: frame::PingData = *b"draining";
