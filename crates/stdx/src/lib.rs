//! What the tests of every crate share: seeded generation and readable scripts.
//!
//! Nothing here is part of a product binary; crates name it under `dev-dependencies`.
//! (`sim` and `bench`, which are tests themselves, may depend on it outright.)

pub mod generate;
pub mod script;

pub use generate::{Generator, each_seed};
