//! Daypass.
