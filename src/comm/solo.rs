//! A world of one rank: a rayon job, or a serial one.

use super::{CommError, Communicator, IntoCommunicator, Round};
use std::time::Duration;

/// One process without MPI.
///
/// ```
/// use piton::comm::{Communicator, Solo};
/// assert_eq!((Solo::default().rank(), Solo::default().size()), (0, 1));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Solo {
    pending: Option<Round>,
}

impl Communicator for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn node_ranks(&self) -> &[usize] {
        &[0]
    }

    fn nodes(&self) -> usize {
        1
    }

    fn start_max(&mut self, contribution: Round) -> Result<(), CommError> {
        self.pending = Some(contribution);
        Ok(())
    }

    fn test_max(&mut self) -> Result<Option<Round>, CommError> {
        Ok(self.pending.take())
    }

    fn wait_max(&mut self, waited: Duration) -> Result<Round, CommError> {
        self.pending.take().ok_or(CommError::Lost {
            rank: 0,
            size: 1,
            what: "a reduction that was never started",
            waited,
        })
    }

    fn broadcast(&mut self, _root: usize, bytes: Vec<u8>, _deadline: Duration) -> Result<Vec<u8>, CommError> {
        Ok(bytes)
    }

    fn release(&mut self) -> Result<(), CommError> {
        Ok(())
    }
}

impl IntoCommunicator for Solo {
    type Communicator = Self;

    fn into_communicator(self) -> Result<Self, CommError> {
        Ok(self)
    }
}

impl IntoCommunicator for &Solo {
    type Communicator = Solo;

    fn into_communicator(self) -> Result<Solo, CommError> {
        Ok(self.clone())
    }
}
