//! Whole clusters of nodes, without clocks, disks or sockets: readable scripts, and a hostile world.

mod member;
mod oracle;
mod print;
mod script;
mod simulation;
