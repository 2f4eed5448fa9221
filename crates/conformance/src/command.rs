//! A line of a script, understood.
//!
//! ```text
//! put KEY VALUE · get KEY [END] · delete KEY [END]    the calls a script needs most
//! call [-H "name: value"] KV.Txn {…}                  any call; all answers, one a line
//! repeat 100 COMMAND                                  only the last answer shows; $i counts from 0
//! eventually `text` COMMAND                           again and again, until the answer has the text
//! start NAME call … · pending NAME · await NAME       a call that blocks
//! open NAME [-H …] Watch.Watch {…} {…}                a stream, and what is sent at once
//! send NAME {…} · finish NAME · close NAME            one more message; no more messages; hang up
//! receive NAME [COUNT] · events NAME COUNT            the next answers; answers until there are so many events
//! progress NAME                                       asks a watch for progress until it answers
//! http [-H "name: value"] [-show name] [-any-message] METHOD PATH [BODY]
//! http-open NAME … · receive NAME                     the same, of which the body comes line by line
//! grpc PATH [HEX]                                     a unary call with any bytes
//! peer METHOD PATH [BODY]                             what other members ask: see [`peer`]
//! snapshot · metrics · restart
//! ```

use anyhow::{Context, bail, ensure};
use prost_reflect::MethodDescriptor;
use serde_json::{Value as Json, json};

use crate::notation::{bytes_of, parse as parse_json, parse_several};
use crate::peer::{self, Peer};
use crate::schema;

/// Repeating more often than this is a benchmark, not a conformance case.
const REPEAT_MAX: usize = 20_000;

pub(crate) enum Command {
    Call(Call),
    Repeat { times: usize, line: String },
    Eventually { text: String, line: String },
    Start { name: String, call: Call },
    Pending { name: String },
    Await { name: String },
    Stream { name: String, act: Act },
    Http(Http),
    HttpOpen { name: String, http: Http },
    Grpc { path: String, message: Vec<u8> },
    Peer(Peer),
    Snapshot,
    Metrics,
    Restart,
}

/// What may be done to a stream.
pub(crate) enum Act {
    Open { call: Call, more: Vec<Json> },
    Send { message: Json },
    Finish,
    Close,
    Receive { count: usize },
    Events { count: usize },
    Progress,
}

#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: MethodDescriptor,
    pub(crate) metadata: Vec<(String, Vec<u8>)>,
    pub(crate) request: Json,
}

pub(crate) struct Http {
    pub(crate) headers: Vec<(String, String)>,
    /// Headers of the answer worth showing.
    pub(crate) shown: Vec<String>,
    /// Whether any error message will do: those about bad JSON are Go's, not etcd's.
    pub(crate) any_message: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: String,
}

/// Understands a line in which names have been replaced by what they stand for.
pub(crate) fn parse(line: &str) -> anyhow::Result<Command> {
    let (verb, rest) = word(line);
    let name = || {
        let (name, rest) = word(rest);
        ensure!(!name.is_empty(), "{verb} wants a name");
        Ok((name.to_owned(), rest))
    };
    Ok(match verb {
        "put" | "get" | "delete" => Command::Call(short_call(verb, rest)?),
        "call" => Command::Call(call(rest)?.0),
        "repeat" => {
            let (times, line) = word(rest);
            let times = times.parse().context("repeat wants a number")?;
            ensure!(times <= REPEAT_MAX, "repeat at most {REPEAT_MAX} times");
            Command::Repeat { times, line: line.to_owned() }
        }
        "eventually" => {
            let quoted = rest.strip_prefix('`').and_then(|rest| rest.split_once('`'));
            let (text, line) = quoted.context("eventually wants a text in `…`")?;
            Command::Eventually { text: text.to_owned(), line: line.trim_start().to_owned() }
        }
        "start" => {
            let (name, rest) = name()?;
            let rest = rest.strip_prefix("call ").context("only a call can be started")?;
            Command::Start { name, call: call(rest)?.0 }
        }
        "pending" => Command::Pending { name: name()?.0 },
        "await" => Command::Await { name: name()?.0 },
        "open" | "send" | "finish" | "close" | "receive" | "events" | "progress" => {
            let (name, rest) = name()?;
            Command::Stream { name, act: act(verb, rest)? }
        }
        "http" => Command::Http(http(rest)?),
        "http-open" => {
            let (name, rest) = name()?;
            Command::HttpOpen { name, http: http(rest)? }
        }
        "grpc" => {
            let (path, hex) = word(rest);
            Command::Grpc { path: path.to_owned(), message: from_hex(hex)? }
        }
        "peer" => Command::Peer(peer::parse(rest)?),
        "snapshot" => Command::Snapshot,
        "metrics" => Command::Metrics,
        "restart" => Command::Restart,
        _ => bail!("there is no command {verb}"),
    })
}

fn act(verb: &str, rest: &str) -> anyhow::Result<Act> {
    Ok(match verb {
        "open" => {
            let (call, more) = call(rest)?;
            Act::Open { call, more }
        }
        "send" => Act::Send { message: parse_json(rest)? },
        "finish" => Act::Finish,
        "close" => Act::Close,
        "receive" if rest.is_empty() => Act::Receive { count: 1 },
        "receive" => Act::Receive { count: rest.parse()? },
        "events" => Act::Events { count: rest.parse().context("events wants a number")? },
        _ => Act::Progress,
    })
}

/// The first word, and what follows it.
pub(crate) fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_start())
}

fn short_call(verb: &str, rest: &str) -> anyhow::Result<Call> {
    let (first, rest) = word(rest);
    let (second, rest) = word(rest);
    ensure!(rest.is_empty() && !first.is_empty(), "{verb} takes one or two words");
    // Both words may hold \xHH, as JSON strings in scripts do.
    let text = |word: &str| parse_json(&format!("\"{word}\""));
    let (first, second) = (text(first)?, text(second)?);
    let (name, request) = match verb {
        "put" => ("KV.Put", json!({"key": first, "value": second})),
        "get" => ("KV.Range", json!({"key": first, "range_end": second})),
        _ => ("KV.DeleteRange", json!({"key": first, "range_end": second})),
    };
    Ok(Call { method: schema::method(name)?, metadata: Vec::new(), request })
}

/// A call, and the messages that follow its first.
fn call(rest: &str) -> anyhow::Result<(Call, Vec<Json>)> {
    let (headers, rest) = options(rest, "-H")?;
    let (method, messages) = word(rest);
    let mut messages = parse_several(messages)?.into_iter();
    let request = messages.next().unwrap_or_else(|| json!({}));
    let metadata = headers.into_iter().map(|(name, value)| (name, bytes_of(&value))).collect();
    let call = Call { method: schema::method(method)?, metadata, request };
    Ok((call, messages.collect()))
}

pub(crate) type Headers = Vec<(String, String)>;

/// Leading `-H "name: value"`; the value as a JSON string.
pub(crate) fn options<'a>(mut rest: &'a str, flag: &str) -> anyhow::Result<(Headers, &'a str)> {
    let mut headers = Vec::new();
    while let Some(quoted) = rest.strip_prefix(flag).map(str::trim_start) {
        let inner = quoted.strip_prefix('"').context("a header stands in quotes")?;
        let end = inner.find('"').context("a header's quotes end")?;
        let Json::String(header) = parse_json(&quoted[..end + 2])? else { bail!("not a text") };
        let (name, value) = header.split_once(':').context("a header is name: value")?;
        headers.push((name.to_owned(), value.trim().to_owned()));
        rest = inner[end + 1..].trim_start();
    }
    Ok((headers, rest))
}

fn http(rest: &str) -> anyhow::Result<Http> {
    let (headers, mut rest) = options(rest, "-H")?;
    let mut shown = Vec::new();
    while let Some(more) = rest.strip_prefix("-show ") {
        let (name, more) = word(more);
        shown.push(name.to_ascii_lowercase());
        rest = more;
    }
    let any_message = rest.starts_with("-any-message ");
    let (method, rest) = word(rest.strip_prefix("-any-message ").unwrap_or(rest));
    let (path, body) = word(rest);
    ensure!(path.starts_with('/') || path == "*", "http wants a method and a path");
    let (method, path, body) = (method.to_owned(), path.to_owned(), body.to_owned());
    Ok(Http { headers, shown, any_message, method, path, body })
}

fn from_hex(text: &str) -> anyhow::Result<Vec<u8>> {
    ensure!(text.is_ascii() && text.len().is_multiple_of(2), "not hex: {text}");
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?)).collect()
}

/// Writes out `$x(1000)`, a thousand times x, and `$list(3;{"key":"k$i"})`, items with commas.
pub(crate) fn expand(line: &str) -> anyhow::Result<String> {
    const TEXT_MAX: usize = 8 << 20;
    let mut line = line.to_owned();
    while let Some(at) = line.find("$x(") {
        let (count, rest) = line[at + 3..].split_once(')').context("$x( has an end")?;
        let count: usize = count.parse()?;
        ensure!(count <= TEXT_MAX, "$x of at most {TEXT_MAX}");
        line = format!("{}{}{}", &line[..at], "x".repeat(count), rest);
    }
    while let Some(at) = line.find("$list(") {
        let (count, rest) = line[at + 6..].split_once(';').context("$list has a ;")?;
        let (item, rest) = balanced(rest)?;
        let items = 0..count.parse::<usize>()?.min(REPEAT_MAX);
        let items: Vec<String> = items.map(|i| item.replace("$i", &i.to_string())).collect();
        line = format!("{}{}{}", &line[..at], items.join(","), rest);
    }
    Ok(line)
}

/// Splits at the parenthesis that closes one opened before.
fn balanced(text: &str) -> anyhow::Result<(&str, &str)> {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth == 0 {
            return Ok((&text[..at], &text[at + 1..]));
        }
    }
    bail!("a parenthesis is open at the end of {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_written_out_with_its_counter() {
        assert_eq!(expand("a [$list(2;{k$i(x)})] b").unwrap(), "a [{k0(x)},{k1(x)}] b");
        assert_eq!(expand("$x(3)-$x(0)").unwrap(), "xxx-");
    }
}
