//! Who belongs to the cluster, and which version it speaks.
//!
//! # Invariants
//!
//! - The id of a removed member never returns.   (asserted in `change`)

use std::collections::{BTreeMap, BTreeSet};

use proto::error::Error;
use proto::etcdserverpb::Member;
use serde_json::Value;

/// A change of the members, as a configuration entry says it.
#[derive(Clone, Debug, PartialEq)]
pub enum MemberChange {
    Add(Member),
    Remove {
        id: u64,
    },
    /// Where a member's peers reach it.
    Update {
        id: u64,
        peer_urls: Vec<String>,
    },
    /// A learner becomes a voter.
    Promote {
        id: u64,
    },
}

impl MemberChange {
    pub fn id(&self) -> u64 {
        match self {
            Self::Add(member) => member.id,
            Self::Remove { id } | Self::Update { id, .. } | Self::Promote { id } => *id,
        }
    }
}

/// What an operator plans for the cluster's version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downgrade {
    pub enabled: bool,
    pub target: String,
}

/// Reads a member as etcd writes it in JSON: in conf changes, snapshots and lists of members.
pub fn member_of(said: &Value) -> Member {
    let texts = |name: &str| {
        let items = said[name].as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Member {
        id: said["id"].as_u64().unwrap_or_default(),
        name: said["name"].as_str().unwrap_or_default().to_owned(),
        peer_urls: texts("peerURLs"),
        client_urls: texts("clientURLs"),
        is_learner: said["isLearner"].as_bool().unwrap_or_default(),
    }
}

#[derive(Default)]
pub struct Membership {
    pub(crate) members: BTreeMap<u64, Member>,
    pub(crate) removed: BTreeSet<u64>,
    pub(crate) version: Option<String>,
    pub(crate) downgrade: Downgrade,
    /// More learners than these are refused. All members must agree on it.
    pub(crate) learners_max: usize,
}

impl Membership {
    /// All members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn member(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// The version all members speak, once it is decided: "3.7.0".
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The same without the patch: "3.7".
    pub fn minor_version(&self) -> Option<&str> {
        self.version().map(|version| version.rsplit_once('.').map_or(version, |(minor, _)| minor))
    }

    pub fn downgrade(&self) -> &Downgrade {
        &self.downgrade
    }

    /// Whether the cluster speaks at least version `major`.`minor`.
    pub fn speaks(&self, major: u64, minor: u64) -> bool {
        let mut parts = self.version().unwrap_or_default().split('.').map(str::parse::<u64>);
        match (parts.next(), parts.next()) {
            (Some(Ok(ours)), Some(Ok(our_minor))) => (ours, our_minor) >= (major, minor),
            (Some(_) | None, Some(_) | None) => false,
        }
    }

    /// Whether a change makes sense for the members there are. What doesn't is not to be applied.
    pub fn check(&self, change: &MemberChange) -> Result<(), Error> {
        let id = change.id();
        if self.is_removed(id) {
            return Err(Error::MemberNotFound);
        }
        let known = self.members.get(&id);
        match change {
            MemberChange::Add(member) => {
                if known.is_some() {
                    return Err(Error::MemberExist);
                }
                self.check_urls(id, &member.peer_urls)?;
                let full = self.n_learners() >= self.learners_max;
                if member.is_learner && full { Err(Error::TooManyLearners) } else { Ok(()) }
            }
            MemberChange::Update { peer_urls, .. } => {
                known.ok_or(Error::MemberNotFound)?;
                self.check_urls(id, peer_urls)
            }
            // Whoever let this in may not have known yet that the others had been removed.
            MemberChange::Remove { .. } => match known {
                None => Err(Error::MemberNotFound),
                Some(member) if !member.is_learner && self.n_voters() == 1 => {
                    Err(Error::MemberNotEnoughStarted)
                }
                Some(_) => Ok(()),
            },
            MemberChange::Promote { .. } => match known {
                None => Err(Error::MemberNotFound),
                Some(member) if member.is_learner => Ok(()),
                Some(_) => Err(Error::MemberNotLearner),
            },
        }
    }

    fn n_learners(&self) -> usize {
        self.members.values().filter(|member| member.is_learner).count()
    }

    fn n_voters(&self) -> usize {
        self.members.len() - self.n_learners()
    }

    /// No two members share a URL.
    fn check_urls(&self, id: u64, urls: &[String]) -> Result<(), Error> {
        let others = self.members.values().filter(|member| member.id != id);
        let taken = others.flat_map(|member| &member.peer_urls).any(|url| urls.contains(url));
        if taken { Err(Error::PeerURLExist) } else { Ok(()) }
    }

    /// Carries out a change, and returns the member it is about, `None` if it is gone.
    ///
    /// # Panics
    ///
    /// If it would bring a removed member back.
    pub(crate) fn change(&mut self, change: MemberChange) -> Option<&Member> {
        let id = change.id();
        assert!(!self.is_removed(id), "member {id:x} was removed for ever");
        match change {
            MemberChange::Add(member) => drop(self.members.insert(id, member)),
            MemberChange::Remove { .. } => {
                self.members.remove(&id);
                self.removed.insert(id);
            }
            MemberChange::Update { peer_urls, .. } => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.peer_urls = peer_urls;
                }
            }
            MemberChange::Promote { .. } => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.is_learner = false;
                }
            }
        }
        self.members.get(&id)
    }
}
