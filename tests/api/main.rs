//! What needs a real control plane and no node.

mod ask;
mod chart;
mod guard;
mod policies;
