//! Telling of values that cannot be.
//!
//! Comes in: what was found in the fields of a shard while it was encoded. Goes out: an event for each field, which the recorder also prints, and
//! a mark on the checkpoint. What must hold: what is found keeps nothing from being written, committed or resumed.

use super::recorder::Recorder;
use crate::ids::CheckpointName;
use crate::journal::Event;
use crate::shard::{Inspect, ShardWriter};
use crate::state::Outline;
use crate::store::{JobFolder, Suspect};
use crate::watch::{OutOfRange, Values};
use std::sync::Arc;

impl Inspect for Values {
    fn wants(&self, field: usize) -> bool {
        self.wants(field)
    }

    fn look(&self, field: usize, offset: u64, bytes: &[u8]) {
        self.look(field, offset, bytes);
    }
}

/// Has `values` looked at while `writer` encodes them, where there are such.
pub(super) fn watch(writer: &mut ShardWriter, values: Option<&Arc<Values>>) {
    if let Some(values) = values {
        writer.inspect_with(Arc::clone(values) as Arc<dyn Inspect>);
    }
}

/// Notes what was found in the fields of `outline`, and marks checkpoint `name` of `job` as suspect because of it.
pub(super) fn tell(
    values: &Values,
    outline: &Outline,
    name: CheckpointName,
    rank: usize,
    job: &JobFolder,
    recorder: &Recorder,
) {
    let found = values.found(outline);
    if let Some(OutOfRange { field, value, index, bounds, .. }) = found.first() {
        let rank = u32::try_from(rank).unwrap_or(u32::MAX);
        let reason = format!("rank {rank}: {field:?} has {value} at [{index}], and should be {bounds}");
        if let Err(error) = job.mark_suspect(&Suspect { checkpoint: name, rank, reason }) {
            let what = format!("cannot mark checkpoint {} as suspect", name.id);
            recorder.record(Event::Problem { what, detail: error.to_string() });
        }
    }
    for found in found {
        recorder.record(Event::ValuesOutOfRange {
            id: name.id,
            field: found.field,
            index: found.index,
            component: found.component,
            global: found.global,
            value: found.value,
            count: found.count,
            bounds: found.bounds,
        });
    }
}
