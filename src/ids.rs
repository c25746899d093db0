//! The numbers that name an attempt and a checkpoint.
//!
//! What must hold: an epoch grows with every attempt of a job, and a checkpoint's id grows within a job, so that
//! `(epoch, id)` orders all checkpoints of a job by age, whichever attempt wrote them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The name of the folder that belongs to this number: zero-padded, so that names sort as numbers do.
            #[must_use]
            pub fn folder(self) -> String {
                format!("{:06}", self.0)
            }

            /// The number that a folder's name stands for, or `None` where it is not one that [`Self::folder`] makes.
            #[must_use]
            pub fn from_folder(name: &str) -> Option<Self> {
                let number = name.parse().ok().map(Self)?;
                (number.folder() == name).then_some(number)
            }

            /// The number after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The number of an attempt of a job; it only grows.
    Epoch
}
number! {
    /// The number of a checkpoint within a job; it only grows.
    CheckpointId
}

/// Where a checkpoint stands in the history of a job: the attempt that wrote it, and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CheckpointName {
    /// The attempt that wrote it.
    pub epoch: Epoch,
    /// Its number within the job.
    pub id: CheckpointId,
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (epoch {})", self.id, self.epoch)
    }
}

/// How a user names a checkpoint: `ID`, or `EPOCH/ID` where two attempts wrote the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointSelector {
    /// The attempt, where the user named one.
    pub epoch: Option<Epoch>,
    /// The checkpoint's number.
    pub id: CheckpointId,
}

impl CheckpointSelector {
    /// Whether this selects `name`.
    #[must_use]
    pub fn selects(&self, name: CheckpointName) -> bool {
        self.id == name.id && self.epoch.is_none_or(|epoch| epoch == name.epoch)
    }
}

impl fmt::Display for CheckpointSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            Some(epoch) => write!(f, "{epoch}/{}", self.id),
            None => self.id.fmt(f),
        }
    }
}

impl FromStr for CheckpointSelector {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, id) = match text.split_once('/') {
            Some((epoch, id)) => (Some(Epoch(epoch.parse()?)), id),
            None => (None, text),
        };
        Ok(Self { epoch, id: CheckpointId(id.parse()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_sort_as_numbers_and_come_back() {
        assert_eq!(Epoch(7).folder(), "000007");
        assert_eq!(Epoch::from_folder("000007"), Some(Epoch(7)));
        assert_eq!(Epoch::from_folder("7"), None);
        assert_eq!(CheckpointId::from_folder("12345678"), Some(CheckpointId(12_345_678)));
        assert_eq!(CheckpointId::from_folder("x"), None);
    }

    #[test]
    fn a_selector_reads_as_it_prints() {
        for text in ["12", "3/12"] {
            assert_eq!(text.parse::<CheckpointSelector>().map(|s| s.to_string()).as_deref(), Ok(text));
        }
        assert!("3/".parse::<CheckpointSelector>().is_err());
        assert!("-1".parse::<CheckpointSelector>().is_err());
    }
}
