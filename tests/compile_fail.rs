//! What must not compile: every way by which a value could be printed, copied, compared or written out.

#[test]
fn a_secret_value_has_one_door_only() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
