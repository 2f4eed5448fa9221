//! What the tests of every crate share: seeded generation, readable scripts, free ports,
//! tools of others.
//!
//! Nothing here is part of a product binary; crates name it under `dev-dependencies`.
//! (`sim` and `bench`, which are tests themselves, may depend on it outright.)

pub mod generate;
pub mod port;
pub mod script;
pub mod tool;

pub use generate::{Generator, each_seed};
