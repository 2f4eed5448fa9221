//! The worker: answers that take long to compute, for one caller after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use member::inbox::Waited;
use proto::error::{Error, Status};
use proto::etcdserverpb::{HashKvResponse, HashResponse};
use proto::prost::Message;
use state::HashTurn;
use storage::pace;
use storage::revlog::Hurry;

use super::chores::Answering;
use crate::engine::Engine;
use crate::metrics::Histogram;

/// How long the thread sleeps when nobody asks.
const IDLE: Duration = Duration::from_secs(1);

/// What the worker is asked for.
#[derive(Debug)]
pub enum Job {
    /// The hash of all keys as of a revision; 0 is now.
    HashKv { revision: i64, answering: Answering },
    /// The hash of all there is.
    Hash { answering: Answering },
}

pub(crate) fn run(engine: &Arc<Engine>) {
    pace::step_back();
    let mut jobs = VecDeque::new();
    while engine.worker.wait(IDLE) != Waited::Closed {
        engine.worker.take(&mut jobs);
        for job in jobs.drain(..) {
            match job {
                Job::HashKv { revision, answering } => {
                    answering.answer(engine, hash_kv(engine, revision));
                }
                Job::Hash { answering } => answering.answer(engine, hash(engine)),
            }
        }
    }
}

fn hash_kv(engine: &Engine, revision: i64) -> Result<Bytes, Status> {
    let hash = compute(engine, revision, &engine.metrics.hash_kv)?;
    let response = HashKvResponse {
        header: Some(engine.state().header()),
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        hash_revision: hash.revision,
    };
    Ok(response.encode_to_vec().into())
}

/// etcd hashes the pages' contents here, which two members need not share; for us the keys are all
/// that is worth comparing.
fn hash(engine: &Engine) -> Result<Bytes, Status> {
    let hash = compute(engine, 0, &engine.metrics.hash)?;
    let response = HashResponse { header: Some(engine.state().header()), hash: hash.hash };
    Ok(response.encode_to_vec().into())
}

fn compute(engine: &Engine, revision: i64, times: &Histogram) -> Result<state::KvHash, Error> {
    let start = Instant::now();
    let mut run = engine.state().hash(revision);
    loop {
        // The lock is taken anew for each turn: the writer comes in between.
        let turn = engine.state().hash_turn(&mut run)?;
        let hash = match turn {
            HashTurn::More => {
                std::thread::yield_now();
                continue;
            }
            HashTurn::Job(job) => engine.or_die("store", job.run(&mut Hurry)),
            HashTurn::Known(hash) => hash,
        };
        times.observe(start.elapsed());
        return Ok(hash);
    }
}
