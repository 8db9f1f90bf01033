//! What tests of the whole program share: a broker process of their own, and a client that speaks frames.

pub mod broker;
pub mod client;
