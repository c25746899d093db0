//! `piton show`: what a checkpoint holds.

use crate::exit::Outcome;
use crate::output::{Cell, Output, Style, Table, human, progress};
use crate::{Common, jobs};
use piton::ids::{CheckpointId, CheckpointName};
use piton::journal::{self, Event};
use piton::reader::{Checkpoint, ReadError, Reader, Selection, Statistics};
use piton::state::FieldClass;
use piton::store::FieldSummary;
use serde::Serialize;
use std::collections::BTreeMap;

/// Of more ranks than this, only the extremes are listed.
const MOST_RANKS: usize = 16;

/// Show what a checkpoint holds: its regions with what is in them, its shards, and how long it took
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton show\n  piton show tsunami 14\n  piton show tsunami 2/14 --quick\n  \
                  piton show tsunami latest --json | jq '.regions[].name'")]
pub struct Show {
    /// The job, which may be left out where the store holds one, and the checkpoint: ID, EPOCH/ID or latest (the default)
    #[arg(value_names = ["JOB", "ID"], num_args = 0..=2)]
    words: Vec<String>,
    /// Don't read the state itself: no smallest, largest and mean values
    #[arg(long)]
    quick: bool,
    /// List all shards, however many there are
    #[arg(long)]
    shards: bool,
}

#[derive(Debug, Serialize)]
struct Shown {
    job: String,
    epoch: u64,
    id: u64,
    committed: bool,
    step: u64,
    tick: u64,
    ranks: u32,
    /// When it was committed; not known of one that was not.
    created_unix_ms: Option<u64>,
    program: String,
    library: String,
    reason: String,
    label: Option<String>,
    pinned: bool,
    /// Why its values are suspect, where they are; it may be resumed all the same.
    suspect: Option<String>,
    /// All values that cannot be, field by field and rank by rank, as far as the journal has them.
    out_of_range: Vec<OutOfRange>,
    parents: Vec<u64>,
    raw_bytes: u64,
    stored_bytes: u64,
    regions: Vec<Region>,
    shards: Vec<Shard>,
    timings: Timings,
    /// How the shards were encoded and why, as rank 0 chose from its measurements; none where nothing was measured yet, or
    /// the user chose.
    encoding: Option<Encoding>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Encoding {
    storage_bytes_per_second: f64,
    /// Seconds that steps lose for each second of encoding and writing.
    busy: f64,
    interval_seconds: f64,
    threads: Option<u32>,
    /// Their priority: 0, the application's, to 19, the lowest.
    nice: Option<u8>,
    expected_bytes: Option<u64>,
    expected_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
struct OutOfRange {
    rank: Option<u32>,
    field: String,
    /// The first element that is wrong, by its number in the rank's own array.
    index: u64,
    component: Option<u64>,
    global: Option<Vec<u64>>,
    value: String,
    count: u64,
    bounds: String,
}

#[derive(Debug, Serialize)]
struct Region {
    name: String,
    class: FieldClass,
    r#type: String,
    /// The shape of the global array, where the application gave one.
    global: Option<Vec<u64>>,
    /// The shapes of the ranks' own arrays, halos included; each once, in the order of the ranks.
    shapes: Vec<Vec<u64>>,
    raw_bytes: u64,
    stored_bytes: u64,
    /// How much work rank 0 spent on making it small: raw, fastest, auto, thorough or smallest.
    effort: Option<String>,
    /// The same while the storage had nothing to write, where that was another.
    effort_in_haste: Option<String>,
    /// How many chunks are stored in which way.
    codecs: BTreeMap<&'static str, u64>,
    statistics: Vec<Statistics>,
}

#[derive(Debug, Default, Serialize)]
struct Shard {
    rank: u32,
    file: String,
    raw_bytes: u64,
    stored_bytes: u64,
    chunks: Option<usize>,
    blocked_seconds: Option<f64>,
    shard_seconds: Option<f64>,
}

/// From the journal, where it has them.
#[derive(Debug, Default, Serialize)]
struct Timings {
    /// The longest time that a rank stood still.
    blocked_seconds: Option<f64>,
    /// The longest time that a rank took for its shard.
    shard_seconds: Option<f64>,
    /// From the return of the call that froze the state until the checkpoint was durable.
    commit_seconds: Option<f64>,
}

impl Show {
    /// Prints it.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (job, word) = jobs::split_one(&self.words);
        let selection = word.map_or(Ok(Selection::Latest), jobs::selection)?;
        let (reader, _) = jobs::open(common, job)?;
        let checkpoint = reader.checkpoint(reader.find(selection)?)?;
        let (shown, outcome) = look(&reader, &checkpoint, !self.quick)?;
        if output.is_json() {
            output.json(&shown)?;
        } else {
            self.print(&shown, output)?;
        }
        Ok(outcome)
    }

    fn print(&self, shown: &Shown, output: &mut Output) -> anyhow::Result<()> {
        let title = format!("{}: checkpoint {} (epoch {})", shown.job, shown.id, shown.epoch);
        let title = output.paint(&title, Style::Bold);
        let state = if shown.committed { "" } else { ", complete but not committed" };
        let pinned = if shown.pinned { ", pinned" } else { "" };
        let ranks = human::count(shown.ranks as usize, "rank");
        output.text(&format!("{title} at step {}, {ranks}{state}{pinned}\n", shown.step))?;
        let mut facts = Vec::new();
        if let Some(created) = shown.created_unix_ms {
            let time = journal::WallTime::from_unix_ms(i64::try_from(created).unwrap_or(i64::MAX));
            facts.push(("committed", format!("{} ago, {time}", human::span(jobs::age(created)))));
        }
        if !shown.reason.is_empty() {
            facts.push(("because of", shown.reason.clone()));
        }
        facts.extend(shown.label.clone().map(|label| ("label", label)));
        facts.extend(shown.suspect.clone().map(|why| ("suspect", why)));
        let ratio = human::ratio(shown.raw_bytes, shown.stored_bytes);
        let (raw, stored) = (human::size(shown.raw_bytes), human::size(shown.stored_bytes));
        facts.push(("size", format!("{raw}, stored in {stored} ({ratio})")));
        if !shown.parents.is_empty() {
            let parents: Vec<String> = shown.parents.iter().map(u64::to_string).collect();
            facts.push(("needs", format!("checkpoints {}", parents.join(", "))));
        }
        if !shown.program.is_empty() {
            facts.push(("written by", format!("program {}, Piton {}", shown.program, shown.library)));
        }
        let timings = &shown.timings;
        let times = [
            ("blocked", timings.blocked_seconds),
            ("slowest shard", timings.shard_seconds),
            ("committed after", timings.commit_seconds),
        ];
        let times: Vec<String> =
            times.iter().filter_map(|(what, time)| Some(format!("{what} {}", human::short((*time)?)))).collect();
        if !times.is_empty() {
            facts.push(("timing", times.join(", ")));
        }
        facts.extend(shown.encoding.as_ref().map(|encoding| ("encoding", encoding.why())));
        for (what, text) in facts {
            output.text(&output.paint(&format!("{what:<12}"), Style::Dim))?;
            output.line(text)?;
        }
        output.text("\n")?;
        output.table(&self.regions(shown))?;
        output.text("\n")?;
        output.table(&self.shard_table(shown))?;
        if !self.shards && shown.shards.len() > MOST_RANKS {
            output.line(format!("the {MOST_RANKS} that took longest of {}; --shards lists all", shown.shards.len()))?;
        }
        for wrong in shown.out_of_range.iter().take(MOST_RANKS) {
            let text = output.paint(&wrong.sentence(), Style::Warning);
            output.text(&format!("{text}\n"))?;
        }
        if let Some(more) = shown.out_of_range.len().checked_sub(MOST_RANKS).filter(|more| *more > 0) {
            output.line(format!("values that cannot be in {more} more fields of ranks"))?;
        }
        for problem in &shown.problems {
            let text = output.paint(problem, Style::Bad);
            output.text(&format!("{text}\n"))?;
        }
        Ok(())
    }

    fn regions(&self, shown: &Shown) -> Table {
        let several = |region: &Region| region.class == FieldClass::Array;
        let headings = match self.quick {
            true => vec!["region", "type", "shape", "raw", "stored", "ratio", "chunks"],
            false => {
                vec!["region", "type", "shape", "min", "mean", "max", "histogram", "raw", "stored", "ratio", "chunks"]
            }
        };
        let chosen = shown.regions.iter().any(|region| region.effort.is_some());
        let headings: Vec<&str> = headings.into_iter().chain(chosen.then_some("effort")).collect();
        let mut table = Table::new(&headings);
        for region in &shown.regions {
            let codecs: Vec<String> = region.codecs.iter().map(|(codec, chunks)| format!("{chunks} {codec}")).collect();
            let kind = match region.class {
                FieldClass::Array => region.r#type.clone(),
                FieldClass::Value => format!("value {}", region.r#type),
                FieldClass::Constant => format!("constant {}", region.r#type),
                FieldClass::AppendFile => "appended file".into(),
            };
            let shape = if several(region) { shape(region, shown.ranks) } else { String::new() };
            let mut cells = vec![Cell::new(&region.name), Cell::new(kind), Cell::new(shape)];
            let sizes = [
                Cell::new(human::size(region.raw_bytes)).right(),
                Cell::new(human::size(region.stored_bytes)).right(),
                Cell::new(human::ratio(region.raw_bytes, region.stored_bytes)).right(),
                Cell::new(codecs.join(", ")),
            ];
            let mut components = region.statistics.iter();
            // Of a plain number the figures stand in the region's own line.
            let own = components.next().filter(|statistics| statistics.component.is_empty());
            if !self.quick {
                cells.extend(figures(own));
            }
            cells.extend(sizes);
            if chosen {
                let efforts = region.effort.iter().chain(&region.effort_in_haste);
                cells.push(Cell::new(efforts.map(String::as_str).collect::<Vec<_>>().join(", in haste ")));
            }
            table.row(cells);
            for statistics in region.statistics.iter().filter(|statistics| !statistics.component.is_empty()) {
                let mut cells = vec![
                    Cell::new(format!("  {}", statistics.component)).styled(Style::Dim),
                    Cell::new(""),
                    Cell::new(""),
                ];
                cells.extend(figures(Some(statistics)));
                table.row(cells);
            }
        }
        table
    }

    fn shard_table(&self, shown: &Shown) -> Table {
        let mut table = Table::new(&["rank", "shard", "raw", "stored", "ratio", "chunks", "blocked", "written in"]);
        let mut shards: Vec<&Shard> = shown.shards.iter().collect();
        if !self.shards && shards.len() > MOST_RANKS {
            let time = |shard: &Shard| shard.shard_seconds.unwrap_or(0.0);
            shards.sort_by(|one, other| time(other).total_cmp(&time(one)));
            shards.truncate(MOST_RANKS);
        }
        let time = |seconds: Option<f64>| Cell::new(seconds.map_or_else(String::new, human::short)).right();
        for shard in shards {
            table.row([
                Cell::new(shard.rank.to_string()).right(),
                Cell::new(&shard.file),
                Cell::new(human::size(shard.raw_bytes)).right(),
                Cell::new(human::size(shard.stored_bytes)).right(),
                Cell::new(human::ratio(shard.raw_bytes, shard.stored_bytes)).right(),
                Cell::new(shard.chunks.map_or_else(String::new, |chunks| chunks.to_string())).right(),
                time(shard.blocked_seconds),
                time(shard.shard_seconds),
            ]);
        }
        table
    }
}

fn figures(statistics: Option<&Statistics>) -> [Cell; 4] {
    let number = |number: Option<f64>| Cell::new(number.map_or_else(String::new, human::number)).right();
    let Some(statistics) = statistics else { return std::array::from_fn(|_| Cell::new("")) };
    let mut histogram = human::sparkline(&statistics.histogram);
    for (count, what) in [(statistics.nan, "NaN"), (statistics.infinite, "infinite")] {
        if count > 0 {
            histogram.push_str(&format!(" {count} {what}"));
        }
    }
    [number(statistics.min), number(statistics.mean), number(statistics.max), Cell::new(histogram)]
}

fn times(shape: &[u64]) -> String {
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ")
}

/// The shape of an array: the global one, or those of the ranks.
fn shape(region: &Region, ranks: u32) -> String {
    match (&region.global, region.shapes.as_slice()) {
        (Some(global), _) => format!("{} global", times(global)),
        (None, []) => String::new(),
        (None, [one]) if ranks == 1 => times(one),
        (None, [one]) => format!("{} a rank", times(one)),
        (None, several) => {
            let elements = |shape: &Vec<u64>| shape.iter().fold(1u64, |product, n| product.saturating_mul(*n));
            let (least, most) = (several.iter().map(elements).min(), several.iter().map(elements).max());
            format!("{} to {} a rank", least.unwrap_or(0), most.unwrap_or(0))
        }
    }
}

/// Gathers what is shown. What can't be read is named, and the rest shown.
fn look(reader: &Reader, checkpoint: &Checkpoint, statistics: bool) -> anyhow::Result<(Shown, Outcome)> {
    let manifest = checkpoint.manifest();
    let name = checkpoint.name();
    let (mut problems, mut outcome) = (Vec::new(), Outcome::Done);
    let mut problem = |what: String, error: &ReadError| {
        outcome = outcome.max(if error.is_damage() { Outcome::No } else { Outcome::Unknown });
        problems.push(format!("{what}{error}"));
    };
    let region = |field: &FieldSummary| Region {
        name: field.name.clone(),
        class: field.class,
        r#type: field.kind.clone(),
        global: field.global.clone(),
        shapes: Vec::new(),
        raw_bytes: field.bytes,
        stored_bytes: 0,
        effort: None,
        effort_in_haste: None,
        codecs: BTreeMap::new(),
        statistics: Vec::new(),
    };
    let mut regions: Vec<Region> = manifest.fields.iter().map(region).collect();
    let places: BTreeMap<&str, usize> =
        manifest.fields.iter().enumerate().map(|(place, field)| (field.name.as_str(), place)).collect();
    let mut shards = Vec::new();
    for entry in &manifest.shards {
        let mut shard = Shard {
            rank: entry.rank,
            file: entry.file.clone(),
            raw_bytes: entry.raw_bytes,
            stored_bytes: entry.bytes,
            ..Shard::default()
        };
        match checkpoint.shard(entry.rank) {
            Ok(open) => {
                shard.chunks = Some(open.chunks().len());
                let fields = &open.outline().fields;
                let regions_of: Vec<Option<usize>> =
                    fields.iter().map(|field| places.get(field.name.as_str()).copied()).collect();
                for (field, place) in fields.iter().zip(&regions_of) {
                    if let Some(region) = place.and_then(|place| regions.get_mut(place))
                        && !region.shapes.contains(&field.shape)
                    {
                        region.shapes.push(field.shape.clone());
                    }
                }
                for chunk in open.chunks() {
                    let place = regions_of.get(chunk.field as usize).copied().flatten();
                    if let Some(region) = place.and_then(|place| regions.get_mut(place)) {
                        region.stored_bytes += u64::from(chunk.stored_len);
                        *region.codecs.entry(chunk.codec.name()).or_default() += 1;
                    }
                }
            }
            Err(error) => problem(String::new(), &error),
        }
        shards.push(shard);
    }
    let wanted = |region: &Region| statistics && region.class == FieldClass::Array;
    let bar = progress::of_bytes(regions.iter().filter(|region| wanted(region)).map(|region| region.raw_bytes).sum());
    for region in regions.iter_mut().filter(|region| wanted(region)) {
        bar.tick();
        match checkpoint.statistics(&region.name) {
            Ok(found) => region.statistics = found,
            Err(error) => problem(format!("{}: ", region.name), &error),
        }
        bar.inc(region.raw_bytes);
    }
    bar.finish_and_clear();
    let (timings, encoding, out_of_range) = from_journal(reader, name, &mut shards, &mut regions);
    let shown = Shown {
        job: manifest.job.clone(),
        epoch: name.epoch.0,
        id: name.id.0,
        committed: checkpoint.is_committed(),
        step: manifest.step,
        tick: manifest.tick,
        ranks: manifest.world,
        created_unix_ms: checkpoint.is_committed().then_some(manifest.created_unix_ms),
        program: manifest.program.clone(),
        library: manifest.library.clone(),
        reason: manifest.reason.clone(),
        label: manifest.label.clone(),
        pinned: reader.job().is_pinned(name)?,
        suspect: reader.job().suspect(name).map(|suspect| suspect.reason),
        out_of_range,
        parents: manifest.parents.iter().map(|parent| parent.0).collect(),
        raw_bytes: manifest.raw_bytes,
        stored_bytes: manifest.stored_bytes,
        regions,
        shards,
        timings,
        encoding,
        problems,
    };
    Ok((shown, outcome))
}

impl OutOfRange {
    fn sentence(&self) -> String {
        let Self { field, index, value, count, bounds, .. } = self;
        let rank = self.rank.map_or_else(String::new, |rank| format!("rank {rank}: "));
        let component = self.component.map_or_else(String::new, |number| format!("[{number}]"));
        let global = self.global.as_ref().map_or_else(String::new, |global| format!(", global {global:?}"));
        format!(
            "{rank}{field} has {value} at [{index}]{component}{global}, and should be {bounds}; {count} numbers are not"
        )
    }
}

impl Encoding {
    /// Why the efforts are what they are.
    fn why(&self) -> String {
        let storage = human::size(self.storage_bytes_per_second as u64);
        let threads = self.threads.map_or_else(String::new, |threads| {
            let nice = self.nice.map_or_else(String::new, |nice| format!(" at nice {nice}"));
            format!("{} of a rank{nice}; ", human::count(usize::try_from(threads).unwrap_or(usize::MAX), "thread"))
        });
        let expected = self.expected_seconds.zip(self.expected_bytes).map_or_else(String::new, |(seconds, bytes)| {
            format!("; {} of work for {} expected", human::short(seconds), human::size(bytes))
        });
        format!(
            "{threads}storage took {storage} a second, steps lost {:.0} % of the time of encoding and writing, a checkpoint \
             every {}{expected} (rank 0)",
            self.busy * 100.0,
            human::short(self.interval_seconds)
        )
    }
}

/// What the journal says about the checkpoint; the ranks' own times go to their shards.
fn from_journal(
    reader: &Reader,
    name: CheckpointName,
    shards: &mut [Shard],
    regions: &mut [Region],
) -> (Timings, Option<Encoding>, Vec<OutOfRange>) {
    let (mut timings, mut encoding, mut out_of_range) = (Timings::default(), None, Vec::new());
    let folder = reader.job().epoch_folder(name.epoch);
    let seconds = |ns: u64| ns as f64 * 1e-9;
    let is_it = |id: CheckpointId| id == name.id;
    // A journal is a help only: a checkpoint without one is as good.
    let records = journal::read(&**reader.job().medium(), &folder).map(|journal| journal.records).unwrap_or_default();
    for record in records {
        let (rank, first) = (record.rank, record.rank == Some(0));
        let shard = record.rank.and_then(|rank| shards.get_mut(rank as usize));
        match (record.event, shard) {
            (Event::Frozen { id, blocked_ns, .. }, Some(shard)) if is_it(id) => {
                shard.blocked_seconds = Some(seconds(blocked_ns));
            }
            (Event::ShardDurable { id, seconds, .. }, Some(shard)) if is_it(id) => shard.shard_seconds = Some(seconds),
            (
                Event::Encoding {
                    id,
                    efforts,
                    in_haste,
                    storage_bytes_per_second,
                    busy,
                    interval_seconds,
                    threads,
                    nice,
                    expected_bytes,
                    expected_seconds,
                },
                _,
            ) if first && is_it(id) => {
                for region in &mut *regions {
                    let named =
                        |fields: &(&String, &String)| fields.1.split(", ").any(|field| field == region.name.as_str());
                    region.effort = efforts.iter().find(named).map(|(effort, _)| effort.clone());
                    region.effort_in_haste = in_haste.iter().find(named).map(|(effort, _)| effort.clone());
                }
                encoding = Some(Encoding {
                    storage_bytes_per_second,
                    busy,
                    interval_seconds,
                    threads,
                    nice,
                    expected_bytes,
                    expected_seconds,
                });
            }
            (Event::ValuesOutOfRange { id, field, index, component, global, value, count, bounds }, _) if is_it(id) => {
                out_of_range.push(OutOfRange { rank, field, index, component, global, value, count, bounds });
            }
            (Event::Committed { id, commit_ns, .. }, _) if is_it(id) => {
                timings.commit_seconds = Some(seconds(commit_ns));
            }
            _ => {}
        }
    }
    let longest = |times: &mut dyn Iterator<Item = Option<f64>>| times.flatten().reduce(f64::max);
    timings.blocked_seconds = longest(&mut shards.iter().map(|shard| shard.blocked_seconds));
    timings.shard_seconds = longest(&mut shards.iter().map(|shard| shard.shard_seconds));
    (timings, encoding, out_of_range)
}
