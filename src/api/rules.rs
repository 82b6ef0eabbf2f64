//! Rules that more than one kind has.

/// The rule that a field of a run never changes. Absent and present are told apart, so it sits on `spec`.
macro_rules! fixed {
    ($field:literal) => {
        Rule::new(concat!(
            "has(self.",
            $field,
            ") == has(oldSelf.",
            $field,
            ") && (!has(self.",
            $field,
            ") || self.",
            $field,
            " == oldSelf.",
            $field,
            ")"
        ))
        .message(concat!(
            $field,
            " cannot change: a run's shape is fixed; `kubectl replace --force -f FILE` starts a new run"
        ))
        .field_path(concat!(".", $field))
    };
}
