//! Feature gates: `--feature-gates=Name=true,Other=false`.
//!
//! `AllAlpha` and `AllBeta` set every gate of a stage that isn't named itself.

use std::collections::BTreeMap;
use std::fmt;

use super::value::{Parsed, boolean};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    AllAlpha,
    AllBeta,
    CompactHashCheck,
    FastLeaseKeepAlive,
    InitialCorruptCheck,
    LeaseCheckpoint,
    LeaseCheckpointPersist,
    PriorityRequest,
    SetMemberLocalAddr,
    StopGrpcServiceOnDefrag,
    TxnModeWriteWithSharedBuffer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Alpha,
    Beta,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Alpha => "ALPHA",
            Self::Beta => "BETA",
        }
    }
}

/// Every gate of etcd 3.7, by name: its stage, and whether it is open by default.
const GATES: [(Gate, &str, Stage, bool); 11] = [
    (Gate::AllAlpha, "AllAlpha", Stage::Alpha, false),
    (Gate::AllBeta, "AllBeta", Stage::Beta, false),
    (Gate::CompactHashCheck, "CompactHashCheck", Stage::Alpha, false),
    (Gate::FastLeaseKeepAlive, "FastLeaseKeepAlive", Stage::Beta, true),
    (Gate::InitialCorruptCheck, "InitialCorruptCheck", Stage::Alpha, false),
    (Gate::LeaseCheckpoint, "LeaseCheckpoint", Stage::Alpha, false),
    (Gate::LeaseCheckpointPersist, "LeaseCheckpointPersist", Stage::Alpha, false),
    (Gate::PriorityRequest, "PriorityRequest", Stage::Alpha, false),
    (Gate::SetMemberLocalAddr, "SetMemberLocalAddr", Stage::Alpha, false),
    (Gate::StopGrpcServiceOnDefrag, "StopGRPCServiceOnDefrag", Stage::Alpha, false),
    (Gate::TxnModeWriteWithSharedBuffer, "TxnModeWriteWithSharedBuffer", Stage::Beta, true),
];

/// What was said about gates; the rest are as they are by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    said: BTreeMap<Gate, bool>,
}

impl Gates {
    /// Adds what `text` says to what was said before; nothing if it holds a mistake.
    pub(super) fn set(&mut self, text: &str) -> Parsed<()> {
        let mut said = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (gate, open) = parse_pair(pair)?;
            said.insert(gate, open);
        }
        self.said.extend(said);
        Ok(())
    }

    pub fn is_open(&self, gate: Gate) -> bool {
        let (_, _, stage, default) = row(gate);
        let group = match stage {
            Stage::Alpha => Gate::AllAlpha,
            Stage::Beta => Gate::AllBeta,
        };
        let said = self.said.get(&gate).or_else(|| self.said.get(&group));
        said.copied().unwrap_or(default)
    }
}

impl Gates {
    /// Each gate's name and stage, and whether it is open.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        GATES.iter().map(|&(gate, name, stage, _)| (name, stage.name(), self.is_open(gate)))
    }
}

/// What was said, sorted by name.
impl fmt::Display for Gates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (&gate, open)) in self.said.iter().enumerate() {
            let separator = if i == 0 { "" } else { "," };
            write!(f, "{separator}{}={open}", row(gate).1)?;
        }
        Ok(())
    }
}

/// One line for each gate, for the help.
pub(super) fn describe() -> impl Iterator<Item = String> {
    GATES.iter().map(|(_, name, stage, default)| {
        let stage = stage.name();
        format!("{name}=true|false ({stage} - default={default})")
    })
}

fn row(gate: Gate) -> (Gate, &'static str, Stage, bool) {
    let row = GATES[gate as usize];
    assert_eq!(row.0, gate, "the table is in the order of the gates");
    row
}

fn parse_pair(pair: &str) -> Parsed<(Gate, bool)> {
    let (name, value) = match pair.split_once('=') {
        Some((name, value)) => (name.trim(), value.trim()),
        None => return Err(format!("missing bool value for {}", pair.trim())),
    };
    let open = boolean(value).map_err(|_| {
        format!("invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax")
    })?;
    let row = GATES.iter().find(|row| row.1 == name);
    let row = row.ok_or_else(|| format!("unrecognized feature gate: {name}"))?;
    Ok((row.0, open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_named_itself_outweighs_its_group() {
        let mut gates = Gates::default();
        gates.set("LeaseCheckpoint=false, AllAlpha=true").unwrap();
        assert!(!gates.is_open(Gate::LeaseCheckpoint));
        assert!(gates.is_open(Gate::CompactHashCheck));
        assert!(gates.is_open(Gate::FastLeaseKeepAlive), "a beta gate keeps its default");
        gates.set("AllBeta=0").unwrap();
        assert!(!gates.is_open(Gate::FastLeaseKeepAlive));
        assert_eq!(gates.to_string(), "AllAlpha=true,AllBeta=false,LeaseCheckpoint=false");
    }

    #[test]
    fn each_gate_has_its_row() {
        for (gate, ..) in GATES {
            row(gate);
        }
    }
}
