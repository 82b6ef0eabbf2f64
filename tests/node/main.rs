//! A real kubelet with real containers, and the operator as people install it: `helm install`, in the cluster.
//! Needs root. `cargo xtask test --tier node` builds the operator's image first.

#![allow(clippy::unwrap_used, reason = "helpers of tests too")]

mod canary;
mod crash;
mod ends;
mod evaluations;
mod files;
mod images;
mod many;
mod reads;
mod self_test;
mod support;
