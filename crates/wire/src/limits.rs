//! What a connection may cost: every bound, with its name.

use crate::frame::{FRAME_SIZE_CEILING, FRAME_SIZE_DEFAULT, WINDOW_MAX};

/// The bounds of a connection. The defaults are etcd's where etcd has a flag for it.
///
/// Amounts named `…_per_second_max` are per span between two ticks at least a second apart.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls a client may have open at once. (etcd has no limit unless a flag sets one.)
    pub streams_max: u32,
    /// A request message, without its prefix.
    pub message_size_max: usize,
    /// Bytes of incomplete messages, over all streams of the connection.
    pub buffered_bytes_max: usize,
    /// What the client may send on a stream before it is told to go on.
    pub stream_window: u32,
    /// … and on the connection.
    pub connection_window: u32,
    /// The payload of a frame the client sends.
    pub frame_size_max: u32,
    /// Names and values of a request, and 32 bytes each.
    pub header_list_size_max: usize,
    /// An encoded header block over all its frames.
    pub header_block_size_max: usize,
    /// CONTINUATION frames of one block.
    pub continuations_max: u32,
    /// The client's HPACK table; below 64 KiB.
    pub table_size_max: usize,
    /// Above this much unwritten output no more is framed and no more should be read.
    pub output_high_water: usize,
    /// Above this much the peer is not reading while it makes us talk: the connection ends.
    pub output_bytes_max: usize,

    /// Streams reset, by either side.
    pub resets_per_second_max: u32,
    /// Pings with nothing sent between them; those a client measures with are not counted.
    pub pings_per_second_max: u32,
    pub settings_per_second_max: u32,
    /// DATA frames without data that end nothing.
    pub empty_frames_per_second_max: u32,
    /// WINDOW_UPDATE frames beyond four per DATA frame we sent.
    pub window_updates_per_second_max: u32,
    /// PRIORITY and unknown frames, goodbyes, answers to what we sent, and frames for streams that are
    /// gone.
    pub idle_frames_per_second_max: u32,

    /// Pings closer together than this are strikes (`--grpc-keepalive-min-time`).
    pub ping_interval_min_ms: u64,
    /// Quiet for so long, the client is pinged (`--grpc-keepalive-interval`); 0 for never.
    pub keepalive_ms: u64,
    /// Quiet for so long after the ping, it is gone (`--grpc-keepalive-timeout`).
    pub keepalive_timeout_ms: u64,
    /// A client has so long to say its preface and to acknowledge our settings.
    pub handshake_timeout_ms: u64,
    /// Between the two GOAWAYs of a drain, should the client not answer the ping between them.
    pub drain_grace_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_max: 100_000,
            message_size_max: 2 * 1024 * 1024,
            buffered_bytes_max: 64 * 1024 * 1024,
            stream_window: 1024 * 1024,
            connection_window: 4 * 1024 * 1024,
            frame_size_max: FRAME_SIZE_DEFAULT,
            header_list_size_max: 64 * 1024,
            header_block_size_max: 64 * 1024,
            continuations_max: 16,
            table_size_max: 4096,
            output_high_water: 256 * 1024,
            output_bytes_max: 8 * 1024 * 1024,
            resets_per_second_max: 2000,
            pings_per_second_max: 200,
            settings_per_second_max: 100,
            empty_frames_per_second_max: 200,
            window_updates_per_second_max: 2000,
            idle_frames_per_second_max: 1000,
            ping_interval_min_ms: 5000,
            keepalive_ms: 2 * 60 * 60 * 1000,
            keepalive_timeout_ms: 20_000,
            handshake_timeout_ms: 120_000,
            drain_grace_ms: 5000,
        }
    }
}

impl Limits {
    /// Limits that contradict HTTP/2 are a mistake of ours.
    pub(crate) fn check(&self) {
        let frames = FRAME_SIZE_DEFAULT..=FRAME_SIZE_CEILING;
        assert!(frames.contains(&self.frame_size_max), "HTTP/2 has no such frame size");
        for window in [self.stream_window, self.connection_window] {
            assert!((1..=WINDOW_MAX).contains(&i64::from(window)), "HTTP/2 has no such window");
        }
        assert!(self.streams_max > 0, "a connection without streams serves nobody");
    }
}
