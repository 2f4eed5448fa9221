//! Alarms: what is wrong, and with whom.
//!
//! An alarm is raised and disarmed through the log, so all members gate the same requests from the same
//! entry on, whoever of them has the trouble.

use std::collections::BTreeSet;

use proto::etcdserverpb::{AlarmMember, AlarmType};

/// Raised alarms, by type and then by member.
#[derive(Default)]
pub struct Alarms {
    raised: BTreeSet<(AlarmType, u64)>,
}

impl Alarms {
    /// Raises an alarm; one that is already raised stays so. True if it is new.
    pub(crate) fn raise(&mut self, alarm: AlarmType, member_id: u64) -> bool {
        self.raised.insert((alarm, member_id))
    }

    /// True if it was raised.
    pub(crate) fn disarm(&mut self, alarm: AlarmType, member_id: u64) -> bool {
        self.raised.remove(&(alarm, member_id))
    }

    /// Whether any member has it.
    pub fn is_raised(&self, alarm: AlarmType) -> bool {
        self.raised.range((alarm, 0)..=(alarm, u64::MAX)).next().is_some()
    }

    /// The raised alarms of one type; `None` (the type) stands for all.
    pub fn list(&self, of: AlarmType) -> Vec<AlarmMember> {
        let wanted = |alarm| of == AlarmType::None || of == alarm;
        self.raised
            .iter()
            .filter(|(alarm, _)| wanted(*alarm))
            .map(|&(alarm, member_id)| AlarmMember { member_id, alarm: alarm as i32 })
            .collect()
    }
}
