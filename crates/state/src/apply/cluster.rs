//! Alarms, members, and the version of the cluster.

use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, DowngradeResponse};
use proto::membershippb::{
    ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
};
use proto::prost::Message;

use super::Reply;
use crate::State;
use crate::encode;
use crate::membership::{Downgrade, MemberChange};
use crate::state::table;

impl State {
    /// Actions and alarms that nobody knows are passed over, as in etcd.
    pub(super) fn alarm(&mut self, request: &AlarmRequest, reply: Reply<'_>) {
        let (member_id, alarm) = (request.member_id, request.alarm);
        let of = AlarmType::try_from(alarm).ok();
        let set = of.filter(|of| *of != AlarmType::None);
        let row = AlarmMember { member_id, alarm };
        let answer = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => of.map_or_else(Vec::new, |of| self.alarms.list(of)),
            Ok(AlarmAction::Activate) => {
                if set.is_some_and(|alarm| self.alarms.raise(alarm, member_id)) {
                    self.mvcc.log.table_set(table::ALARMS, &row.encode_to_vec(), Some(&[]));
                }
                set.map(|_| row).into_iter().collect()
            }
            Ok(AlarmAction::Deactivate) => {
                let was_raised = set.is_some_and(|alarm| self.alarms.disarm(alarm, member_id));
                if was_raised {
                    self.mvcc.log.table_set(table::ALARMS, &row.encode_to_vec(), None);
                }
                was_raised.then_some(row).into_iter().collect()
            }
            Err(_) => Vec::new(),
        };
        if let Some(out) = reply {
            encode::header(out, &self.header());
            for alarm in answer {
                encode::nested(out, 2, |out| {
                    encode::number(out, 1, alarm.member_id);
                    encode::signed(out, 2, i64::from(alarm.alarm));
                });
            }
        }
    }

    pub(super) fn set_cluster_version(&mut self, request: ClusterVersionSetRequest) {
        let row = Some(request.ver.as_bytes());
        self.mvcc.log.table_set(table::CLUSTER, table::CLUSTER_VERSION, row);
        self.membership.version = Some(request.ver);
    }

    /// A member has started, and says what it is called and where its clients reach it.
    pub(super) fn set_member_attributes(&mut self, request: ClusterMemberAttrSetRequest) {
        let attributes = request.member_attributes.unwrap_or_default();
        // One that was removed before it got round to saying so is passed over.
        let Some(member) = self.membership.members.get_mut(&request.member_id) else { return };
        member.name = attributes.name;
        member.client_urls = attributes.client_urls;
        let row = member.encode_to_vec();
        self.mvcc.log.table_set(table::MEMBERS, &request.member_id.to_be_bytes(), Some(&row));
    }

    pub(super) fn set_downgrade(&mut self, request: DowngradeInfoSetRequest, reply: Reply<'_>) {
        let target = if request.enabled { request.ver } else { String::new() };
        let mut row = vec![u8::from(request.enabled)];
        row.extend_from_slice(target.as_bytes());
        self.mvcc.log.table_set(table::CLUSTER, table::DOWNGRADE, Some(&row));
        self.membership.downgrade = Downgrade { enabled: request.enabled, target };
        if let Some(out) = reply {
            self.downgrade_response().encode(out).expect("memory has room");
        }
    }

    /// What questions about downgrades are answered that went well.
    pub fn downgrade_response(&self) -> DowngradeResponse {
        let version = self.membership.minor_version().unwrap_or_default().to_owned();
        DowngradeResponse { header: Some(self.header()), version }
    }

    pub(super) fn change_member(&mut self, change: MemberChange) {
        let id = change.id();
        let row = self.membership.change(change).map(Message::encode_to_vec);
        self.mvcc.log.table_set(table::MEMBERS, &id.to_be_bytes(), row.as_deref());
        if self.membership.is_removed(id) {
            self.mvcc.log.table_set(table::REMOVED, &id.to_be_bytes(), Some(&[]));
        }
    }
}
