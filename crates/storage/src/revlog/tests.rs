//! The log against a model that keeps everything in maps, on a disk that crashes wherever it can.

mod crash;
mod damage;
mod history;
pub(super) mod model;
mod script;
mod threads;
