//! One server and one carrier, driven by the lines of a script.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use prost_reflect::DynamicMessage;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};
use tonic::transport::{Channel, Endpoint};

use crate::carrier::{Carrier, Stream, failed, understood};
use crate::command::{self, Act, Call, Command};
use crate::gateway::Meaning;
use crate::names::Names;
use crate::server::{Program, Server};
use crate::{grpc, peer, print, raw, schema, snapshot};

/// No step of a script may take longer.
const STEP_DEADLINE: Duration = Duration::from_secs(60);
const POLL_PERIOD: Duration = Duration::from_millis(20);
/// A watch that is not yet in step drops a request for progress without a word.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// A line of an answer. Errors stay apart, because the HTTP status belongs to one carrier only.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Text(String),
    Error { code: i32, message: String, http: Option<u16> },
}

impl Line {
    pub(crate) fn text(&self) -> String {
        match self {
            Line::Text(text) => text.clone(),
            Line::Error { code, message, http } => {
                let name = tonic::Code::from_i32(*code);
                let http = http.map(|status| format!(" http {status}")).unwrap_or_default();
                format!("error {name:?}({code}){http}: {message}")
            }
        }
    }
}

pub(crate) struct Session {
    server: Server,
    channel: Channel,
    carrier: Carrier,
    names: Names,
    streams: BTreeMap<String, Stream>,
    raw_streams: BTreeMap<String, crate::http::Answer>,
    started: BTreeMap<String, JoinHandle<anyhow::Result<Vec<Meaning>>>>,
}

impl Session {
    pub(crate) async fn start(
        program: &Program,
        flags: &[String],
        over_gateway: bool,
    ) -> anyhow::Result<Session> {
        let server = Server::start(program, flags).await?;
        let channel = Endpoint::from_shared(format!("http://{}", server.client))?.connect_lazy();
        let carrier = match over_gateway {
            true => Carrier::Gateway(server.client),
            false => Carrier::Grpc(channel.clone()),
        };
        let (cluster, member) = ids(&channel, server.peer).await?;
        let texts = vec![
            (server.client.to_string(), "$client_address"),
            (server.peer.to_string(), "$peer_address"),
            (format!("{cluster:x}"), "$cluster.hex"),
            (format!("{member:x}"), "$member.hex"),
        ];
        let names = Names::new(member, texts);
        let (streams, raw_streams, started) = Default::default();
        Ok(Session { server, channel, carrier, names, streams, raw_streams, started })
    }

    /// Does what the line says, within the deadline.
    pub(crate) async fn run(&mut self, line: &str) -> anyhow::Result<Vec<Line>> {
        let line = command::expand(&self.names.reveal(line))?;
        let step = Box::pin(self.step(&line));
        timeout(STEP_DEADLINE, step).await.context("no answer in time")?
    }

    async fn step(&mut self, line: &str) -> anyhow::Result<Vec<Line>> {
        match command::parse(line)? {
            Command::Call(call) => self.call(call).await,
            Command::Repeat { times, line } => {
                let mut answer = Vec::new();
                for i in 0..times {
                    let line = line.replace("$i", &i.to_string());
                    answer = Box::pin(self.step(&line)).await?;
                }
                Ok(answer)
            }
            Command::Eventually { text, line } => self.eventually(&text, &line).await,
            Command::Start { name, call } => {
                let running = tokio::spawn(self.carrier.clone().call(call));
                ensure!(self.started.insert(name, running).is_none(), "this name is taken");
                Ok(Vec::new())
            }
            Command::Pending { name } => {
                let running = self.started.get(&name).context("nothing has this name")?;
                let word = if running.is_finished() { "finished" } else { "pending" };
                Ok(vec![Line::Text(word.to_owned())])
            }
            Command::Await { name } => {
                let running = self.started.remove(&name).context("nothing has this name")?;
                let answers = running.await??;
                Ok(answers.into_iter().map(|answer| self.line(answer)).collect())
            }
            Command::Stream { name, act } => self.act(&name, act).await,
            Command::Http(http) => {
                let answer = raw::exchange(self.server.client, &http, &mut self.names).await?;
                Ok(answer.into_iter().map(Line::Text).collect())
            }
            Command::HttpOpen { name, http } => {
                let (line, answer) = raw::open(self.server.client, &http).await?;
                self.raw_streams.insert(name, answer);
                Ok(vec![Line::Text(line)])
            }
            Command::Grpc { path, message } => self.grpc(path, message).await,
            Command::Peer(peer) => {
                let answer = peer::exchange(self.server.peer, &peer, &mut self.names).await?;
                Ok(vec![Line::Text(answer)])
            }
            Command::Snapshot => {
                let line = snapshot::check(&self.carrier).await?;
                Ok(vec![Line::Text(line)])
            }
            Command::Metrics => {
                let names = raw::metrics(self.server.client).await?;
                Ok(names.into_iter().map(Line::Text).collect())
            }
            Command::Restart => {
                self.streams.clear();
                self.raw_streams.clear();
                self.server.restart().await?;
                Ok(Vec::new())
            }
        }
    }

    async fn act(&mut self, name: &str, act: Act) -> anyhow::Result<Vec<Line>> {
        match act {
            Act::Open { call, more } => {
                let stream = self.carrier.open(&call, &more)?;
                let before = self.streams.insert(name.to_owned(), stream);
                ensure!(before.is_none(), "this name is taken");
            }
            Act::Send { message } => self.stream(name)?.send(&message)?,
            Act::Finish => self.stream(name)?.finish()?,
            Act::Close => {
                let stream = self.streams.remove(name).map(drop);
                let stream = stream.or(self.raw_streams.remove(name).map(drop));
                stream.context("no stream has this name")?;
            }
            Act::Receive { count } => return self.receive(name, count).await,
            Act::Events { count } => return self.events(name, count).await,
            Act::Progress => return self.progress(name).await,
        }
        Ok(Vec::new())
    }

    fn stream(&mut self, name: &str) -> anyhow::Result<&mut Stream> {
        self.streams.get_mut(name).context("no stream has this name")
    }

    fn line(&mut self, answer: Meaning) -> Line {
        match answer {
            Meaning::Message(message) => Line::Text(print::message(&message, &mut self.names)),
            Meaning::Error { code, message, http } => {
                let message = self.names.hide(&message);
                Line::Error { code, message, http }
            }
        }
    }

    async fn call(&mut self, call: Call) -> anyhow::Result<Vec<Line>> {
        let answers = self.carrier.clone().call(call).await?;
        Ok(answers.into_iter().map(|answer| self.line(answer)).collect())
    }

    async fn eventually(&mut self, text: &str, line: &str) -> anyhow::Result<Vec<Line>> {
        let mut poll = interval(POLL_PERIOD);
        let mut last = String::new();
        let deadline = Instant::now() + STEP_DEADLINE - Duration::from_secs(1);
        while Instant::now() < deadline {
            poll.tick().await;
            let answer = Box::pin(self.step(line)).await?;
            last = answer.iter().map(Line::text).collect::<Vec<_>>().join(" ");
            if last.contains(text) {
                return Ok(answer);
            }
        }
        bail!("this never came; the last answer was {last}")
    }

    async fn receive(&mut self, name: &str, count: usize) -> anyhow::Result<Vec<Line>> {
        let mut lines = Vec::with_capacity(count);
        for _ in 0..count {
            let line = if let Some(answer) = self.raw_streams.get_mut(name) {
                let line = answer.line().await?;
                line.map(|line| Line::Text(raw::body_line(&line, &mut self.names)))
            } else {
                let answer = self.stream(name)?.next().await?;
                answer.map(|answer| self.line(answer))
            };
            lines.push(line.unwrap_or_else(|| Line::Text("end".to_owned())));
        }
        Ok(lines)
    }

    /// Receives until there are `count` events; how they were grouped does not show, because it
    /// depends on how far behind the watch was.
    async fn events(&mut self, name: &str, count: usize) -> anyhow::Result<Vec<Line>> {
        let mut lines = Vec::new();
        let mut seen = 0;
        let mut last_revisions: BTreeMap<i64, i64> = BTreeMap::new();
        while seen < count {
            let answer = self.stream(name)?.next().await?.context("the stream ended early")?;
            let Meaning::Message(response) = &answer else { return Ok(vec![self.line(answer)]) };
            let events = response.get_field_by_name("events").context("not a watch")?.into_owned();
            let events = events.as_list().context("not a watch")?;
            if events.is_empty() {
                lines.push(self.line(answer));
                continue;
            }
            seen += events.len();
            let id = response.get_field_by_name("watch_id").and_then(|v| v.as_i64()).unwrap_or(0);
            let before = last_revisions.get(&id).copied().unwrap_or(0);
            for event in events {
                let event = event.as_message().context("an event is a message")?;
                let revision = revision_of(event);
                ensure!(revision <= header_revision(response), "an event of the future");
                ensure!(revision > before, "the events of revision {revision} were torn apart");
                last_revisions.insert(id, revision);
                let text = print::message(event, &mut self.names);
                lines.push(Line::Text(format!("watch {id}: {text}")));
            }
        }
        Ok(lines)
    }

    async fn progress(&mut self, name: &str) -> anyhow::Result<Vec<Line>> {
        let mut poll = interval(PROGRESS_PERIOD);
        let request = json!({"progress_request": {}});
        loop {
            let stream = self.stream(name)?;
            tokio::select! {
                _ = poll.tick() => stream.send(&request)?,
                answer = stream.next() => {
                    let answer = answer?.context("the stream ended early")?;
                    return Ok(vec![self.line(answer)]);
                }
            }
        }
    }

    async fn grpc(&mut self, path: String, message: Vec<u8>) -> anyhow::Result<Vec<Line>> {
        let name = path.rsplit_once('.').map(|(_, name)| name.replace('/', "."));
        let method = name.and_then(|name| schema::method(&name).ok());
        let target = grpc::Target { channel: self.channel.clone(), path, metadata: Vec::new() };
        let answer = target.call(message.into()).await;
        Ok(vec![match (method, answer) {
            (Some(method), answer) => self.line(understood(&method, answer)?),
            (None, Ok(answer)) => Line::Text(format!("{} bytes", answer.len())),
            (None, Err(status)) => self.line(failed(&status)),
        }])
    }
}

/// Asks the server which cluster and who it is, so that scripts may call them by name.
///
/// Another process may have been quicker to take the port. Then the answer comes from a stranger,
/// who does not know our peer address.
async fn ids(channel: &Channel, peer: SocketAddr) -> anyhow::Result<(u64, u64)> {
    let method = schema::method("Cluster.MemberList")?;
    let call = Call { method, metadata: Vec::new(), request: json!({}) };
    let answers = Carrier::Grpc(channel.clone()).call(call).await?;
    let Some(Meaning::Message(list)) = answers.first() else { bail!("no list of members") };
    let members = list.get_field_by_name("members").context("a list of members has them")?;
    let ours = |member: &DynamicMessage| {
        let urls = member.get_field_by_name("peerURLs")?;
        let url = format!("http://{peer}");
        urls.as_list()?.iter().any(|u| u.as_str() == Some(&url)).then_some(())?;
        member.get_field_by_name("ID")?.as_u64()
    };
    let mut members = members.as_list().unwrap_or_default().iter().filter_map(|m| m.as_message());
    let member = members.find_map(ours).context("a stranger answered")?;
    let header = list.get_field_by_name("header").context("an answer has a header")?;
    let header = header.as_message().context("a header is a message")?;
    let cluster = header.get_field_by_name("cluster_id").and_then(|id| id.as_u64());
    Ok((cluster.context("a header names the cluster")?, member))
}

fn header_revision(response: &DynamicMessage) -> i64 {
    let header = response.get_field_by_name("header");
    let header = header.as_ref().and_then(|h| h.as_message());
    header.and_then(|h| h.get_field_by_name("revision")?.as_i64()).unwrap_or(0)
}

fn revision_of(event: &DynamicMessage) -> i64 {
    let kv = event.get_field_by_name("kv");
    let kv = kv.as_ref().and_then(|kv| kv.as_message());
    kv.and_then(|kv| kv.get_field_by_name("mod_revision")?.as_i64()).unwrap_or(0)
}
