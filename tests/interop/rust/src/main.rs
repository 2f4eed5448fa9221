//! Drives a server with the crate etcd-client: `cargo run`, with `ETCD_ENDPOINT` set.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, EventType, GetOptions, LockOptions, PutOptions,
    SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions,
};

type Outcome = Result<(), Box<dyn Error>>;

const PREFIX: &str = "interop/rust/";
const DEADLINE: Duration = Duration::from_secs(20);

/// Runs the named functions one after the other, each on a cleared prefix.
macro_rules! run {
    ($client:expr, $($name:ident),+ $(,)?) => {{
        let (mut passed, mut failed) = (0, 0);
        $(
            let title = stringify!($name).replace('_', " ");
            let outcome = tokio::time::timeout(DEADLINE, async {
                let all = DeleteOptions::new().with_prefix();
                $client.delete(PREFIX, Some(all)).await?;
                $name(&mut $client).await
            });
            match outcome.await {
                Ok(Ok(())) => { passed += 1; println!("ok     {title}"); }
                Ok(Err(error)) => { failed += 1; println!("FAILED {title}: {error}"); }
                Err(_) => { failed += 1; println!("FAILED {title}: no end in time"); }
            }
        )+
        (passed, failed)
    }};
}

#[tokio::main]
async fn main() -> ExitCode {
    let endpoint = env::var("ETCD_ENDPOINT").expect("ETCD_ENDPOINT says where the server is");
    let mut client = Client::connect([endpoint], None).await.expect("a server");
    let (passed, failed) = run!(
        client,
        a_put_is_read_back_with_its_versions,
        a_range_is_sorted_limited_and_counted,
        a_transaction_compares_and_branches,
        a_watch_tells_every_change_in_order,
        a_lease_is_kept_alive_and_revoked,
        a_lock_is_waited_for,
        an_election_has_a_leader,
        a_future_revision_is_refused,
        a_member_tells_its_status,
    );
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn want<T: PartialEq + std::fmt::Debug>(got: T, expected: T) -> Outcome {
    if got == expected { Ok(()) } else { Err(format!("got {got:?}, want {expected:?}").into()) }
}

async fn a_put_is_read_back_with_its_versions(client: &mut Client) -> Outcome {
    client.put(key("a"), "1", None).await?;
    let with_previous = PutOptions::new().with_prev_key();
    let put = client.put(key("a"), "2", Some(with_previous)).await?;
    want(put.prev_key().map(|kv| kv.value().to_vec()), Some(b"1".to_vec()))?;
    let got = client.get(key("a"), None).await?;
    let kv = got.kvs().first().ok_or("no key")?;
    want((kv.value_str()?, kv.version()), ("2", 2))
}

async fn a_range_is_sorted_limited_and_counted(client: &mut Client) -> Outcome {
    for i in 0..5 {
        client.put(key(&i.to_string()), (9 - i).to_string(), None).await?;
    }
    let options = GetOptions::new().with_prefix().with_limit(2);
    let options = options.with_sort(SortTarget::Value, SortOrder::Ascend);
    let got = client.get(PREFIX, Some(options)).await?;
    let values: Vec<_> = got.kvs().iter().filter_map(|kv| kv.value_str().ok()).collect();
    want((values, got.more(), got.count()), (vec!["5", "6"], true, 5))
}

async fn a_transaction_compares_and_branches(client: &mut Client) -> Outcome {
    for expected in [true, false] {
        let txn = Txn::new()
            .when([Compare::create_revision(key("t"), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key("t"), "new", None)])
            .or_else([TxnOp::get(key("t"), None)]);
        let done = client.txn(txn).await?;
        want(done.succeeded(), expected)?;
        if let Some(TxnOpResponse::Get(got)) = done.op_responses().first() {
            want(got.kvs()[0].value_str()?, "new")?;
        }
    }
    Ok(())
}

async fn a_watch_tells_every_change_in_order(client: &mut Client) -> Outcome {
    let first = client.put(key("w"), "0", None).await?;
    let revision = first.header().ok_or("no header")?.revision();
    let options = WatchOptions::new().with_prefix().with_start_revision(revision);
    let mut stream = client.watch(PREFIX, Some(options)).await?;
    for i in 1..20 {
        client.put(key("w"), i.to_string(), None).await?;
    }
    client.delete(key("w"), None).await?;
    let mut seen = 0;
    while let Some(response) = stream.message().await? {
        for event in response.events() {
            let kv = event.kv().ok_or("an event without a key")?;
            if event.event_type() == EventType::Delete {
                return want(seen, 20);
            }
            want(kv.value_str()?, seen.to_string().as_str())?;
            seen += 1;
        }
    }
    Err("the watch ended".into())
}

async fn a_lease_is_kept_alive_and_revoked(client: &mut Client) -> Outcome {
    let lease = client.lease_grant(10, None).await?.id();
    client.put(key("l"), "1", Some(PutOptions::new().with_lease(lease))).await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
    keeper.keep_alive().await?;
    let alive = answers.message().await?.ok_or("no answer")?;
    want((alive.id(), alive.ttl()), (lease, 10))?;
    client.lease_revoke(lease).await?;
    want(client.get(key("l"), None).await?.count(), 0)
}

async fn a_lock_is_waited_for(client: &mut Client) -> Outcome {
    let (a, b) =
        (client.lease_grant(30, None).await?.id(), client.lease_grant(30, None).await?.id());
    let held = client.lock(key("lock"), Some(LockOptions::new().with_lease(a))).await?;
    let mut other = client.clone();
    let waiting = tokio::spawn(async move {
        other.lock(key("lock"), Some(LockOptions::new().with_lease(b))).await
    });
    client.unlock(held.key()).await?;
    let second = waiting.await??;
    client.unlock(second.key()).await?;
    Ok(())
}

async fn an_election_has_a_leader(client: &mut Client) -> Outcome {
    let lease = client.lease_grant(30, None).await?.id();
    client.campaign(key("e"), "me", lease).await?;
    let leader = client.leader(key("e")).await?;
    want(leader.kv().ok_or("no leader")?.value_str()?, "me")
}

async fn a_future_revision_is_refused(client: &mut Client) -> Outcome {
    let options = GetOptions::new().with_revision(i64::MAX);
    let error = client.get(key("a"), Some(options)).await.err().ok_or("no error")?;
    let text = "etcdserver: mvcc: required revision is a future revision";
    want(error.to_string().contains(text), true)
}

async fn a_member_tells_its_status(client: &mut Client) -> Outcome {
    let status = client.status().await?;
    want(status.leader() != 0, true)?;
    want(client.member_list().await?.members().is_empty(), false)
}
