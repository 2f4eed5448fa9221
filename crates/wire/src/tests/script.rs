//! Scripts: `testdata/`. What the client and the server's handlers do, and what came of it.
//!
//! Lines that start with `<` in an answer are events, those with `>` frames to the client.

use std::collections::HashMap;

use super::peer::{self, FrameReader};
use crate::{Code, Connection, Event, Limits, Status, StreamId};

#[test]
fn scripts() {
    stdx::script::run_folder(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata"), || {
        let mut world = World::new();
        move |commands| world.run(commands)
    });
}

struct World {
    connection: Connection,
    reader: FrameReader,
    now_ms: u64,
    /// The socket takes nothing.
    stalled: bool,
}

/// `text`, or `n*c` for n times a letter.
fn body(text: &str) -> Vec<u8> {
    match text.split_once('*') {
        Some((n, letter)) => letter.repeat(n.parse().unwrap()).into_bytes(),
        None => text.as_bytes().to_vec(),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Words that are flags of a frame, taken out of the command.
fn flags<'a>(words: &mut Vec<&'a str>, named: &[(&'a str, u8)]) -> u8 {
    let mut flags = 0;
    words.retain(|word| {
        let flag = named.iter().find(|(name, _)| name == word);
        flags |= flag.map_or(0, |(_, flag)| *flag);
        flag.is_none()
    });
    flags
}

fn fields<'a>(words: &[&'a str]) -> Vec<(&'a str, String)> {
    let pair = |word: &&'a str| {
        let at = word[1..].find('=').expect("name=value") + 1;
        let value = match &word[at + 1..] {
            long if long.contains('*') => String::from_utf8(body(long)).unwrap(),
            value => value.replace("%", " "),
        };
        (&word[..at], value)
    };
    words.iter().map(pair).collect()
}

fn block(words: &[&str]) -> Vec<u8> {
    let fields = fields(words);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    peer::block(&fields)
}

/// A request's usual fields, with the given ones added or put in their place.
fn call_block(path: &str, words: &[&str]) -> Vec<u8> {
    let own = fields(words);
    let replaced: HashMap<_, _> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut all = peer::call_fields(path);
    all.retain(|(name, _)| !replaced.contains_key(name));
    let (pseudo, rest): (Vec<_>, Vec<_>) =
        own.iter().map(|(n, v)| (*n, v.as_str())).partition(|(name, _)| name.starts_with(':'));
    peer::block(&[pseudo, all, rest].concat())
}

impl World {
    fn new() -> Self {
        Self {
            connection: peer::connection(Limits::default()),
            reader: FrameReader::new(),
            now_ms: 0,
            stalled: false,
        }
    }

    fn run(&mut self, commands: &[&str]) -> String {
        let mut lines = Vec::new();
        for command in commands {
            self.command(command, &mut lines);
            self.report(&mut lines);
        }
        if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n") }
    }

    fn report(&mut self, lines: &mut Vec<String>) {
        while let Some(event) = self.connection.poll() {
            lines.push(format!("< {}", describe(&event)));
        }
        let room = if self.stalled { 0 } else { usize::MAX };
        let bytes = peer::take_output(&mut self.connection, room);
        lines.extend(
            self.reader.read(&bytes).into_iter().map(|line| format!("> {}", line.trim_end())),
        );
        if self.connection.is_closed() && lines.last().is_none_or(|line| line != "closed") {
            lines.push("closed".to_owned());
        }
    }

    fn command(&mut self, command: &str, lines: &mut Vec<String>) {
        let mut words: Vec<&str> = command.split(' ').collect();
        let verb = words.remove(0);
        match verb {
            "limits" => self.limits(&words),
            "stall" => self.stalled = true,
            "resume" => self.stalled = false,
            "queued" => lines.push(format!("{} queued", self.connection.queued(id(words[0])))),
            "tick" => {
                self.now_ms += words[0].parse::<u64>().unwrap();
                self.connection.tick(self.now_ms);
            }
            "drain" => self.connection.drain(),
            "hangup" => self.connection.close(),
            "reply" => self.connection.reply(id(words[0]), |out| out.extend(body(words[1]))),
            "send" => self.connection.send_message(id(words[0]), body(words[1])),
            "abort" => self.connection.abort(id(words[0]), crate::ErrorCode::Cancel),
            "hold" => self.connection.hold(id(words[0]), true),
            "unhold" => self.connection.hold(id(words[0]), false),
            "finish" => {
                let message = words.get(2..).unwrap_or_default().join(" ");
                let code = if words[1] == "ok" { Code::Ok } else { Code::NotFound };
                self.connection.finish(id(words[0]), &Status::new(code, &message));
            }
            _ => {
                let bytes = from_client(verb, words);
                self.connection.receive(&bytes);
            }
        }
    }

    fn limits(&mut self, words: &[&str]) {
        let mut limits = Limits::default();
        for word in words {
            let (name, value) = word.split_once('=').unwrap();
            let value: u32 = value.parse().unwrap();
            match name {
                "streams" => limits.streams_max = value,
                "message" => limits.message_size_max = value as usize,
                "buffered" => limits.buffered_bytes_max = value as usize,
                "headers" => limits.header_list_size_max = value as usize,
                "block" => limits.header_block_size_max = value as usize,
                "stream_window" => limits.stream_window = value,
                "high_water" => limits.output_high_water = value as usize,
                other => panic!("no limit {other}"),
            }
        }
        self.connection = peer::connection(limits);
        self.now_ms = 0;
    }
}

fn id(word: &str) -> StreamId {
    StreamId(word.parse().unwrap())
}

fn number(word: &str) -> u32 {
    word.parse().unwrap()
}

/// The bytes of what the client does.
fn from_client(verb: &str, mut words: Vec<&str>) -> Vec<u8> {
    let named = [("end", 1), ("ack", 1), ("more", 0x80), ("padded", 8), ("prioritized", 0x20)];
    let flags = flags(&mut words, &named);
    let ends_block = if flags & 0x80 == 0 { 4 } else { 0 };
    let flags = flags & 0x7f;
    let headers = flags | ends_block;
    match verb {
        "hello" => peer::hello(),
        "raw" => hex(&words.join("")),
        "text" => words.join(" ").replace("\\r\\n", "\r\n").into_bytes(),
        "settings" => {
            let pairs = words.iter().flat_map(|word| {
                let (id, value) = word.split_once('=').unwrap();
                let (id, value) = (id.parse::<u16>().unwrap(), number(value));
                [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
            });
            peer::frame(peer::SETTINGS, flags, 0, &pairs.collect::<Vec<_>>())
        }
        "ping" => peer::frame(peer::PING, flags, 0, words[0].as_bytes()),
        "goaway" => peer::frame(peer::GO_AWAY, 0, 0, &[0; 8]),
        "window" => {
            let more = number(words[1]).to_be_bytes();
            peer::frame(peer::WINDOW_UPDATE, 0, number(words[0]), &more)
        }
        "rst" => peer::frame(peer::RESET, 0, number(words[0]), &8u32.to_be_bytes()),
        "priority" => peer::frame(peer::PRIORITY, 0, number(words[0]), &[0; 5]),
        "call" => {
            let block = call_block(words[1], &words[2..]);
            peer::frame(peer::HEADERS, headers, number(words[0]), &block)
        }
        "headers" => peer::frame(peer::HEADERS, headers, number(words[0]), &block(&words[1..])),
        "continuation" => {
            peer::frame(peer::CONTINUATION, headers, number(words[0]), &block(&words[1..]))
        }
        "data" => {
            let data = words.get(1).map(|text| body(text)).unwrap_or_default();
            peer::frame(peer::DATA, flags, number(words[0]), &data)
        }
        "message" => peer::message(number(words[0]), flags & 1 != 0, &body(words[1])),
        other => panic!("no command {other}"),
    }
}

fn describe(event: &Event) -> String {
    let text = |body: &[u8]| match body.len() {
        0..=40 => body.escape_ascii().to_string(),
        n => format!("({n} bytes)"),
    };
    let known = |metadata: &crate::Metadata| {
        let mut line = String::new();
        for (name, value) in [
            ("token", &metadata.token),
            ("authorization", &metadata.authorization),
            ("version", &metadata.client_api_version),
        ] {
            if let Some(value) = value {
                line += &format!(" {name}={}", value.escape_ascii());
            }
        }
        if metadata.has_leader {
            line += " hasleader";
        }
        line
    };
    match event {
        Event::Unary { stream, method, metadata, body } => {
            format!("unary {} m{} \"{}\"{}", stream.0, method.0, text(body), known(metadata))
        }
        Event::Opened { stream, method, metadata } => {
            format!("opened {} m{}{}", stream.0, method.0, known(metadata))
        }
        Event::Message { stream, body } => format!("message {} \"{}\"", stream.0, text(body)),
        Event::HalfClosed { stream } => format!("half-closed {}", stream.0),
        Event::Drained { stream } => format!("drained {}", stream.0),
        Event::DeadlineExceeded { stream } => format!("deadline {}", stream.0),
        Event::Cancelled { stream, .. } => format!("cancelled {}", stream.0),
    }
}
