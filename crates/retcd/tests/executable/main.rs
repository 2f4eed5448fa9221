//! The real executable, from outside: started, asked, killed, started again.
//!
//! | module | asks |
//! |---|---|
//! | [`bounds`] | does a client that asks for much, or never reads, cost others memory or time? |
//! | [`cluster`] | do several members stay one store, whatever happens to some of them? |
//! | [`crash`] | does `kill -9`, at whatever moment, lose or invent anything? |
//! | [`cli`] | does every bad start end in one clear line, and every good one in peace? |
//! | [`etcdctl`] | does stock etcdctl get the answers it gets from etcd? |
//! | [`equality`] | has it, after the same history, the same keys and hashes as a running etcd? |
//! | [`metrics`] | does whatever happens move its metric, as it moves etcd's? |
//! | [`others`] | do client libraries, h2spec and etcdctl's own checks find an etcd? |
//! | [`wire`] | do connections keep and end as flags and gRPC promise, frame by frame? |
//! | [`support`] | a server process, a client of it, and patience with a limit |

mod bounds;
mod cli;
mod cluster;
mod crash;
mod equality;
mod etcdctl;
mod metrics;
mod others;
mod support;
mod wire;
