//! A member that holds what nobody wrote is found out.

use std::path::Path;
use std::sync::Arc;

use proto::Method;
use proto::etcdserverpb::{AlarmRequest, AlarmResponse, AlarmType};
use proto::mvccpb::KeyValue;
use proto::prost::Message;
use storage::disk::RealDisk;
use storage::revlog::{Config, Hurry, Mark, Meta, Revision, Revlog};

use super::fleet::Fleet;
use super::put;
use crate::support::client::{Client, Failure};
use crate::support::{block_on, eventually};

/// Whom the others outnumber is found out by the one that leads, so that stays so.
const FLAGS: &[&str] = &["--corrupt-check-time=500ms", "--election-timeout=3000"];
const DATA_LOSS: u32 = 15;

/// Adds a revision that no entry of the log has made.
fn tamper(store: &Path) {
    let (mut log, recovered) =
        Revlog::open(Arc::new(RealDisk), store, Config::default()).expect("a store");
    let main = recovered.mark.head + 1;
    let kv = KeyValue {
        key: "forged".into(),
        create_revision: main,
        mod_revision: main,
        version: 1,
        ..KeyValue::default()
    };
    let meta = Meta {
        revision: Revision { main, sub: 0 },
        tombstone: false,
        create_revision: main,
        version: 1,
        lease: 0,
    };
    log.append(&meta, &kv.key, &kv.encode_to_vec()).expect("a disk that works");
    let mark = Mark { head: main, ..recovered.mark };
    log.checkpoint(mark).commit(&mut Hurry).expect("a disk that works");
}

async fn alarms(client: &Client) -> Option<Vec<u64>> {
    let answer: AlarmResponse = client.call(Method::Alarm, &AlarmRequest::default()).await.ok()?;
    let corrupt = answer.alarms.iter().filter(|alarm| alarm.alarm() == AlarmType::Corrupt);
    Some(corrupt.map(|alarm| alarm.member_id).collect())
}

#[test]
fn a_member_that_holds_what_nobody_wrote_raises_the_alarm_and_stops_all_writers() {
    block_on(async {
        let mut fleet = Fleet::found_with("corrupt", 3, FLAGS).await;
        let leader = fleet.leader().await;
        let client = fleet.seats[leader].connect().await.expect("a member");
        for key in 0..5 {
            put(&client, key, key).await.expect("a write");
        }
        fleet.agree().await;
        let at = (leader + 1) % 3;
        let id = fleet.id(at).await;
        fleet.seats[at].stop().await;
        tamper(&fleet.seats[at].home.data().join("member/store"));
        fleet.seats[at].start();
        eventually("the alarm", async || (alarms(&client).await? == [id]).then_some(())).await;
        let refused = put(&client, 9, 9).await;
        assert!(matches!(refused, Err(Failure::Refused { code: DATA_LOSS, .. })), "{refused:?}");
    });
}
