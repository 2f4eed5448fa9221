//! The first start of a member: it founds a cluster with others, or joins one that is there.
//!
//! Founders all write the same log, so that they agree on who votes before anyone has spoken. A member
//! that joins begins with nothing: whoever is there tells it what its id is, and the leader sends the
//! rest.
//!
//! # Invariants
//!
//! - A founder whose data are gone does not found again: it may have voted, and would vote twice. If
//!   the others know it as one that has started, it refuses.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use member::boot::{Founder, founding_log};
use member::durable;
use member::{identity, roster};
use proto::etcdserverpb::{Member, Metadata};
use proto::prost::Message;
use raft::HardState;
use storage::disk::Disk;
use storage::wal::Wal;

use super::Remembered;
use crate::config::{ClusterState, Config, NamedMember};
use crate::peer::{self, Roster};
use crate::start::StartError;

/// How long another member has to say who belongs to the cluster.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The first start: a new log, of a cluster that is founded or joined.
pub(super) fn begin(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    config: &Config,
) -> Result<Remembered, StartError> {
    match config.bootstrap.state {
        ClusterState::New => found(disk, dir, config),
        ClusterState::Existing => join(disk, dir, config),
    }
}

fn found(disk: &Arc<dyn Disk>, dir: &Path, config: &Config) -> Result<Remembered, StartError> {
    let named = named(config)?;
    let (cluster_id, member_id, founders) = founders(config, &named)?;
    refuse_second_founding(config, &named, cluster_id, member_id)?;
    let wal = create_log(disk, dir, cluster_id, member_id)?;
    write_founding_log(wal, cluster_id, member_id, &founders)
        .map_err(|e| StartError(format!("{}: {e}", dir.display())))
}

/// Whoever has been in the cluster and lost its data must be removed and added anew.
fn refuse_second_founding(
    config: &Config,
    named: &[NamedMember],
    cluster_id: u64,
    member_id: u64,
) -> Result<(), StartError> {
    let others = urls_of_others(config, named);
    let Some(roster) = peer::ask_for_roster(&others, ANSWER_MAX) else { return Ok(()) };
    let known = roster.members.iter().find(|member| member.id == member_id);
    let has_started = known.is_some_and(|member| !member.client_urls.is_empty());
    if roster.cluster_id == cluster_id && has_started {
        let text = format!("member {member_id:x} has already been bootstrapped");
        return Err(StartError(text));
    }
    Ok(())
}

/// Learns from the members there are who this member is.
fn join(disk: &Arc<dyn Disk>, dir: &Path, config: &Config) -> Result<Remembered, StartError> {
    let named = named(config)?;
    let others = urls_of_others(config, &named);
    let roster = peer::ask_for_roster(&others, ANSWER_MAX).ok_or_else(|| {
        StartError("cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs".into())
    })?;
    let member_id = own_id(config, &named, &roster)?;
    let wal = create_log(disk, dir, roster.cluster_id, member_id)?;
    Ok(Remembered {
        wal,
        cluster_id: roster.cluster_id,
        member_id,
        hard_state: HardState::default(),
        entries: Vec::new(),
        others: others_in(&roster, member_id),
    })
}

fn others_in(roster: &Roster, member_id: u64) -> Vec<(u64, Vec<String>)> {
    let others = roster.members.iter().filter(|member| member.id != member_id);
    others.map(|member| (member.id, member.peer_urls.clone())).collect()
}

/// The id of the member that has this one's addresses. All that are named must be there, and no more.
fn own_id(config: &Config, named: &[NamedMember], roster: &Roster) -> Result<u64, StartError> {
    let refusal = |text: String| StartError(format!("error validating peerURLs: {text}"));
    if named.len() != roster.members.len() {
        return Err(refusal("member count is unequal".into()));
    }
    let mut own = None;
    for member in named {
        let urls = urls(member);
        let same = |known: &&Member| {
            let mut known: Vec<&str> = known.peer_urls.iter().map(String::as_str).collect();
            known.sort_unstable();
            urls.iter().map(String::as_str).eq(known)
        };
        let known = roster.members.iter().find(same).ok_or_else(|| {
            refusal(format!("PeerURLs: no match found for {} ({})", member.name, urls.join(",")))
        })?;
        if member.name == config.name {
            own = Some(known.id);
        }
    }
    own.ok_or_else(|| StartError("this member is not among those named".into()))
}

fn create_log(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    cluster_id: u64,
    member_id: u64,
) -> Result<Wal, StartError> {
    let metadata = Metadata { node_id: Some(member_id), cluster_id: Some(cluster_id) };
    Wal::create(Arc::clone(disk), dir, &metadata.encode_to_vec())
        .map_err(|e| StartError(format!("{}: {e}", dir.display())))
}

fn write_founding_log(
    mut wal: Wal,
    cluster_id: u64,
    member_id: u64,
    founders: &[Founder],
) -> std::io::Result<Remembered> {
    let (hard_state, entries) = founding_log(founders);
    durable::append(&mut wal, &entries, Some(hard_state))?;
    wal.flush()?;
    let others = Vec::new();
    Ok(Remembered { wal, cluster_id, member_id, hard_state, entries, others })
}

/// A first start that went no further: the log is there, and nothing is decided that it knows of.
pub(super) fn resume(
    remembered: Remembered,
    dir: &Path,
    config: &Config,
) -> Result<Remembered, StartError> {
    let named = named(config)?;
    if config.bootstrap.state == ClusterState::Existing {
        let roster = peer::ask_for_roster(&urls_of_others(config, &named), ANSWER_MAX);
        let others = roster.map(|roster| others_in(&roster, remembered.member_id));
        return Ok(Remembered { others: others.unwrap_or_default(), ..remembered });
    }
    let Remembered { wal, cluster_id, member_id, .. } = remembered;
    let dir = dir.display();
    let (cluster, own, founders) = founders(config, &named)?;
    if (cluster, own) != (cluster_id, member_id) {
        let what = "the log was begun for another cluster, by a start that was cut short";
        return Err(StartError(format!("{dir}: {what}")));
    }
    write_founding_log(wal, cluster_id, member_id, &founders)
        .map_err(|e| StartError(format!("{dir}: {e}")))
}

fn named(config: &Config) -> Result<Vec<NamedMember>, StartError> {
    config.bootstrap.founders(&resolve).map_err(|e| StartError(e.to_string()))
}

/// A member's peer URLs, sorted.
fn urls(member: &NamedMember) -> Vec<String> {
    let mut urls: Vec<String> = member.peer_urls.iter().map(|u| u.as_str().to_owned()).collect();
    urls.sort_unstable();
    urls
}

fn urls_of_others(config: &Config, named: &[NamedMember]) -> Vec<String> {
    named.iter().filter(|member| member.name != config.name).flat_map(urls).collect()
}

/// Ids of the cluster and of this member, and all founders.
fn founders(
    config: &Config,
    named: &[NamedMember],
) -> Result<(u64, u64, Vec<Founder>), StartError> {
    let token = &config.bootstrap.token;
    let mut own = None;
    let mut founders = Vec::new();
    for founder in named {
        let urls = urls(founder);
        let id = identity::member_id(&urls, token, None);
        if founder.name == config.name {
            own = Some(id);
        }
        let name = founder.name.clone();
        let member = Member { id, name, peer_urls: urls, ..Member::default() };
        founders.push(Founder { id, context: roster::encode(&member) });
    }
    let ids: Vec<u64> = founders.iter().map(|founder| founder.id).collect();
    let own = own.ok_or_else(|| StartError("this member is not among the founders".into()))?;
    Ok((identity::cluster_id(&ids), own, founders))
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let mut found = (host, port).to_socket_addrs().map_err(|e| e.to_string())?;
    found.next().ok_or_else(|| format!("no address for {host}"))
}
