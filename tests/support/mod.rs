//! What tests of the whole program share: a broker process of their own, and a client that speaks frames.

#![allow(dead_code, reason = "each test program uses a part")]

pub mod broker;
pub mod client;
pub mod stalls;
