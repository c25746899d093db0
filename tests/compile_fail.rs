//! What must not compile, and what the compiler says about it: the messages are all that a user gets.
//!
//! The expected texts are those of the toolchain that `rust-version` names; after moving it, look at the differences
//! and accept them with `TRYBUILD=overwrite cargo test --test compile_fail`.

#[test]
fn mistakes_are_rejected_with_a_hint() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
