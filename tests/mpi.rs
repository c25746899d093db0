//! The MPI communicator, under a real launcher.

#![cfg(feature = "mpi")]

mod common;

use common::Family;

/// MPICH busy-waits: more ranks than cores take it seconds for a single barrier.
fn rank_counts(family: Family) -> &'static [usize] {
    if family == Family::Mpich { &[1, 2] } else { &[1, 2, 4] }
}

#[test]
fn all_ranks_have_the_same_answers() {
    let program = common::example("mpi-selftest");
    let family = common::family(&program);
    assert_ne!(family, Family::Unknown, "the program is linked to no MPI that the tests know");
    for &ranks in rank_counts(family) {
        let output = common::mpirun(ranks, &program, &["answers"]);
        assert!(output.status.success(), "{ranks} ranks, {family:?}: {}", common::said(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ok");
    }
}

#[test]
fn an_absent_rank_is_noticed_at_the_deadline() {
    let program = common::example("mpi-selftest");
    for &ranks in rank_counts(common::family(&program)).iter().filter(|ranks| **ranks > 1) {
        let output = common::mpirun(ranks, &program, &["absent"]);
        assert!(!output.status.success(), "it ends with an abort");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.lines().any(|line| line.trim() == "ok"), "{ranks} ranks: {}", common::said(&output));
    }
}
