//! What people type, word for word, as a team's admin on an empty namespace who is no cluster admin.

mod holders;
mod keys;
mod rights;
mod secrets;
mod team;
