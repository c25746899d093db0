//! Derive macros of Piton: `State` and `Element`.
