//! The peer port: what other members ask, and all of what they are answered.
//!
//! ```text
//! peer [-member] [-H "name: value"] METHOD PATH [BODY]
//!
//! -member                      with the headers of a member of this cluster; -H may say otherwise,
//!                              and "name: -" leaves one out
//! BODY  text                   as it is
//!       pb=PACKAGE.Message{…}  a message
//!       framed=PACKAGE.Message{…} [TEXT]   a length in 8 bytes, the message, and what follows it
//! ```
//!
//! The answer shows its status, every header but those that tell dates and sizes, and its body, whether
//! or not the server hung up in the middle of it: etcd does in panic.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use prost::Message;

use crate::command::{Headers, options, word};
use crate::names::Names;
use crate::notation::{Form, parse_several, to_message};
use crate::{http, schema};

/// Headers that differ from run to run, or from one way to say the same to another.
const UNSHOWN: &[&str] = &["content-length", "date", "transfer-encoding"];

pub(crate) struct Peer {
    is_member: bool,
    headers: Headers,
    method: String,
    path: String,
    body: Vec<u8>,
}

pub(crate) fn parse(rest: &str) -> anyhow::Result<Peer> {
    let without_flag = rest.strip_prefix("-member ");
    let (headers, rest) = options(without_flag.unwrap_or(rest), "-H")?;
    let (method, rest) = word(rest);
    let (path, text) = word(rest);
    let (method, path) = (method.to_owned(), path.to_owned());
    Ok(Peer { is_member: without_flag.is_some(), headers, method, path, body: body(text)? })
}

fn body(text: &str) -> anyhow::Result<Vec<u8>> {
    let (is_framed, rest) = match (text.strip_prefix("pb="), text.strip_prefix("framed=")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Ok(text.as_bytes().to_vec()),
    };
    let (name, fields) = rest.split_at(rest.find('{').context("a message has fields in {}")?);
    let end = fields.rfind('}').context("a message's fields end")? + 1;
    let fields = parse_several(&fields[..end])?;
    let [fields] = fields.as_slice() else { bail!("one message, not several") };
    let message = to_message(&schema::message(name)?, fields, Form::Script)?.encode_to_vec();
    if !is_framed {
        return Ok(message);
    }
    let length = (message.len() as u64).to_be_bytes();
    let file = rest[name.len() + end..].trim_start();
    Ok([&length[..], &message, file.as_bytes()].concat())
}

/// A whole exchange, as a script shows it.
pub(crate) async fn exchange(
    address: SocketAddr,
    peer: &Peer,
    names: &mut Names,
) -> anyhow::Result<String> {
    let mut headers = peer.headers.clone();
    if peer.is_member {
        let said = |name: &str| peer.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let member = introduction(names).into_iter().filter(|(name, _)| !said(name));
        headers.extend(member.collect::<Headers>());
    }
    headers.retain(|(_, value)| value != "-");
    let Peer { method, path, body, .. } = peer;
    let request = http::Request { method, path, headers: &headers, body };
    let mut answer = http::send(address, &request).await?;
    let mut line = answer.status.to_string();
    let mut told = answer.headers.clone();
    told.retain(|(name, _)| !UNSHOWN.contains(&name.as_str()));
    told.sort();
    for (name, value) in told {
        line.push_str(&format!(" [{name}: {value}]"));
    }
    let body = answer.what_comes().await;
    if !body.is_empty() {
        line.push(' ');
        line.push_str(&shown(&body));
    }
    Ok(names.hide(&line).replace(&names.member.to_string(), "$member"))
}

/// What a member of this cluster says of itself. Nobody has its id.
fn introduction(names: &Names) -> Headers {
    let headers = [
        ("X-Server-From", "f00d"),
        ("X-Server-Version", "3.7.1"),
        ("X-Min-Cluster-Version", "3.0.0"),
        ("X-Etcd-Cluster-ID", "$cluster.hex"),
    ];
    headers.map(|(name, value)| (name.to_owned(), names.reveal(value))).to_vec()
}

/// A text in quotes; other bytes as digits.
fn shown(body: &[u8]) -> String {
    match str::from_utf8(body) {
        Ok(text) if !text.contains(|c: char| c.is_control() && c != '\n') => {
            format!("`{}`", without_volatile(text).replace('\n', "\\n"))
        }
        Ok(_) | Err(_) => body.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// It is another time whenever one asks, and etcd learns its storage version by and by.
const VOLATILE: [&str; 2] = ["\"Now\":\"", "\"storage\":\""];

fn without_volatile(text: &str) -> String {
    let mut text = text.to_owned();
    for name in VOLATILE {
        if let Some((before, after)) = text.split_once(name) {
            let after = after.split_once('"').map_or("", |(_, after)| after);
            text = format!("{before}{name}*\"{after}");
        }
    }
    text
}
