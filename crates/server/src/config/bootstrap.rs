//! The first start: who founds the cluster, or whom a new member joins.
//!
//! Without data a member has only its configuration to go by. Once it has data, none of this is
//! looked at: then the data say who the members are. So these checks wait until somebody has found
//! out that there are none.
//!
//! # Invariants
//!
//! - The founders include this member, and no address is anybody's twice.
//! - A founder advertises the addresses the founders' list has for it: they go into the ids, so
//!   all founders must mean the same.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::Mistakes;
use super::url::{Place, Url, join};
use super::value::Parsed;

/// What a member without data has to go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    pub name: String,
    pub state: ClusterState,
    pub token: String,
    /// `n1=url,n2=url`, as said.
    pub initial_cluster: String,
    pub advertise_peer_urls: Vec<Url>,
    /// Forget the other members, and go on alone with the data there are.
    pub force_new_cluster: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// The members in the list found a cluster.
    New,
    /// The cluster exists, and has been told of this member.
    Existing,
}

/// One of the first members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedMember {
    pub name: String,
    pub peer_urls: Vec<Url>,
}

/// Looks a host name up; the first address counts.
pub type Resolve<'a> = &'a dyn Fn(&str, u16) -> Result<SocketAddr, String>;

impl Bootstrap {
    /// The first members, by name. For a member without data only.
    ///
    /// Names are resolved only if what this member advertises differs from its place in the list.
    pub fn founders(&self, resolve: Resolve<'_>) -> Result<Vec<NamedMember>, Mistakes> {
        let one = |mistake| Mistakes(vec![mistake]);
        let founders = parse_cluster(&self.initial_cluster)
            .map_err(|e| one(format!("error setting up initial cluster: {e}")))?;
        let mut mistakes = Vec::new();
        for founder in &founders {
            for url in founder.peer_urls.iter().filter(|url| url.tls) {
                mistakes.push(format!("--initial-cluster: {url}: retcd does not support TLS yet"));
            }
        }
        match founders.iter().find(|founder| founder.name == self.name) {
            None => mistakes.push(format!(
                "couldn't find local name {:?} in the initial cluster configuration",
                self.name
            )),
            Some(own) if self.state == ClusterState::New => {
                mistakes.extend(self.check_advertised(&own.peer_urls, resolve).err());
            }
            Some(_) => {}
        }
        if has_duplicates(&founders) {
            mistakes.push(format!("initial cluster {} has duplicate url", shown(&founders)));
        }
        if mistakes.is_empty() { Ok(founders) } else { Err(Mistakes(mistakes)) }
    }

    /// Whether this member advertises `listed`, be it by name in one place and by address in the other.
    fn check_advertised(&self, listed: &[Url], resolve: Resolve<'_>) -> Parsed<()> {
        let advertised = &self.advertise_peer_urls;
        let same = same_places(advertised, listed, resolve);
        if same == Ok(true) {
            return Ok(());
        }
        let reason = match same {
            Ok(_) => "the addresses differ".to_owned(),
            Err(e) => e,
        };
        let missing = |from: &[Url], of: &[Url]| -> Vec<Url> {
            of.iter().filter(|url| !from.contains(url)).cloned().collect()
        };
        let unadvertised = missing(advertised, listed);
        if !unadvertised.is_empty() {
            let pairs = unadvertised.iter().map(|url| format!("{}={url}", self.name));
            return Err(format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({reason})",
                pairs.collect::<Vec<_>>().join(","),
                join(advertised)
            ));
        }
        Err(format!(
            "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
            join(&missing(listed, advertised)),
            self.initial_cluster
        ))
    }
}

fn parse_cluster(text: &str) -> Parsed<Vec<NamedMember>> {
    let mut by_name: BTreeMap<&str, Vec<Url>> = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
        let url = Url::parse(url)?;
        if let Some(port) = url.port_beyond() {
            return Err(format!("parse \"{url}\": invalid port \":{port}\" after host"));
        }
        by_name.entry(name).or_default().push(url);
    }
    let founder = |(name, mut peer_urls): (&str, Vec<Url>)| {
        peer_urls.sort();
        NamedMember { name: name.to_owned(), peer_urls }
    };
    Ok(by_name.into_iter().map(founder).collect())
}

fn has_duplicates(founders: &[NamedMember]) -> bool {
    let mut all: Vec<&Url> = founders.iter().flat_map(|founder| &founder.peer_urls).collect();
    let n_all = all.len();
    all.sort();
    all.dedup();
    all.len() < n_all
}

fn shown(founders: &[NamedMember]) -> String {
    let pairs = founders
        .iter()
        .flat_map(|founder| founder.peer_urls.iter().map(|url| format!("{}={url}", founder.name)));
    pairs.collect::<Vec<_>>().join(",")
}

fn same_places(a: &[Url], b: &[Url], resolve: Resolve<'_>) -> Parsed<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    let as_written = |urls: &[Url]| -> Vec<(bool, Place)> {
        let mut places: Vec<_> = urls.iter().map(|url| (url.tls, normal(&url.place))).collect();
        places.sort();
        places
    };
    if as_written(a) == as_written(b) {
        return Ok(true);
    }
    let resolved = |urls: &[Url]| -> Parsed<Vec<(bool, Place)>> {
        let places = urls.iter().map(|url| Ok((url.tls, resolved(url, resolve)?)));
        let mut places = places.collect::<Parsed<Vec<_>>>()?;
        places.sort();
        Ok(places)
    };
    Ok(resolved(a)? == resolved(b)?)
}

/// An address in its one normal spelling.
fn normal(place: &Place) -> Place {
    match place {
        Place::Tcp { host, port } => match host.parse::<IpAddr>() {
            Ok(address) => Place::Tcp { host: address.to_string(), port: *port },
            Err(_) => place.clone(),
        },
        Place::Unix { .. } => place.clone(),
    }
}

fn resolved(url: &Url, resolve: Resolve<'_>) -> Parsed<Place> {
    match &url.place {
        Place::Tcp { host, port } if host != "localhost" => {
            let found =
                resolve(host, *port).map_err(|e| format!("failed to resolve \"{url}\" ({e})"))?;
            Ok(Place::Tcp { host: found.ip().to_string(), port: found.port() })
        }
        Place::Tcp { .. } | Place::Unix { .. } => Ok(url.place.clone()),
    }
}
