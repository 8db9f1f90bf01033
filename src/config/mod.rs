//! Settings: what may be set, read once into types that can only be right.
//!
//! ```text
//!   defaults  <  config file  <  LANEMQ_SECTION__KEY  <  --set section.key=value  <  --listen, --data-dir, --cores
//! ```
//!
//! `load` lays these layers over each other and gives a `Config`, or a `ConfigError` that names the place, the key,
//! what was expected, what was found and what to do. Everybody behind it takes `Config`'s fields as they are: a
//! `FrameMax` lies in its range, a `ListenAddresses` is not empty.
//!
//! `config/lanemq.toml` shows every setting with its default; a test holds the two together. The folder knows
//! nothing of what a setting does; it reads files and the environment, and starts nothing.
//!
//! Serde's derive with `deny_unknown_fields` over `toml` was taken because its errors know line and column; a
//! library that merges layers for us loses them.

mod advice;
mod bounded;
mod byte_count;
mod core_set;
mod error;
mod layers;
mod listen;
mod memory;
mod settings;

pub use bounded::{OutOfRange, Range, Unit};
pub use byte_count::{format_bytes, parse_bytes};
pub use core_set::{CoreSet, NotCores};
pub use error::{ConfigError, Origin, Place};
pub use layers::{NotSetting, Override, load};
pub use listen::ListenAddresses;
pub use memory::{MemoryBudget, NotBudget, available_memory};
pub use settings::*;
