//! Maintenance.Downgrade: plans to go one minor version down, noted where every member sees them.
//!
//! | action | does |
//! |---|---|
//! | VALIDATE | says whether ENABLE would do |
//! | ENABLE | notes the target |
//! | CANCEL | forgets it; with nothing to forget it does nothing, and says so to nobody, as in etcd |

use proto::error::{Code, Error, Status};
use proto::etcdserverpb::DowngradeRequest;
use proto::etcdserverpb::downgrade_request::DowngradeAction;
use proto::membershippb::DowngradeInfoSetRequest;
use proto::prost::Message;
use proto::raft_request::Body;
use state::membership::Membership;

use super::port::{Call, Port, Turn, decode};

/// What downgrades are about: the patch says nothing of formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    major: i64,
    minor: i64,
}

pub(super) fn serve(port: &mut Port, turn: &mut Turn<'_>, call: &Call) -> Result<(), Status> {
    let request: DowngradeRequest = decode(&call.body)?;
    let membership = turn.state().membership();
    let change = match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate) => {
            check(membership, &request.version)?;
            None
        }
        Ok(DowngradeAction::Enable) => {
            let Version { major, minor } = check(membership, &request.version)?;
            let ver = format!("{major}.{minor}.0");
            Some(DowngradeInfoSetRequest { enabled: true, ver })
        }
        Ok(DowngradeAction::Cancel) => {
            let is_planned = membership.downgrade().enabled;
            is_planned.then(|| DowngradeInfoSetRequest { enabled: false, ..Default::default() })
        }
        Err(_) => return Err(Status::new(Code::Unknown, "etcdserver: unknown method")),
    };
    if let Some(change) = change {
        return port.propose(turn, call.to, Body::DowngradeInfoSet, &change.encode_to_vec());
    }
    let response = turn.state().downgrade_response();
    turn.outlet.reply(call.to, response.encode_to_vec().into());
    Ok(())
}

/// The target a client names, if the cluster may go there.
fn check(membership: &Membership, target: &str) -> Result<Version, Error> {
    let target = parse(target).or_else(|| parse(&format!("{target}.0")));
    let target = target.ok_or(Error::WrongDowngradeVersionFormat)?;
    let current = membership.version().and_then(parse).ok_or(Error::ClusterVersionUnavailable)?;
    if target != (Version { minor: current.minor - 1, ..current }) {
        return Err(Error::InvalidDowngradeTargetVersion);
    }
    if membership.downgrade().enabled {
        return Err(Error::DowngradeInProcess);
    }
    Ok(target)
}

/// Reads `3.6.0-rc.1+build`.
fn parse(text: &str) -> Option<Version> {
    let (text, build) = text.split_once('+').unwrap_or((text, ""));
    let (numbers, pre) = text.split_once('-').unwrap_or((text, ""));
    let is_label = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if !pre.bytes().chain(build.bytes()).all(is_label) {
        return None;
    }
    let number = |part: &str| {
        let is_number = part.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| part.parse::<i64>().ok()).flatten()
    };
    let mut numbers = numbers.split('.').map(number);
    let (major, minor) = (numbers.next()??, numbers.next()??);
    numbers.next()??;
    numbers.next().is_none().then_some(Version { major, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_three_numbers_and_perhaps_labels() {
        for text in ["3.6.0", "3.6.9", "3.6.0-rc.1", "3.6.0+x", "3.6.0-a+b"] {
            assert_eq!(parse(text), Some(Version { major: 3, minor: 6 }), "{text}");
        }
        for text in ["", "3", "3.6", "v3.6.0", "3.6.0.1", "3..0", "3.6.x", "3.6.0-ü", "3.6.+1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
