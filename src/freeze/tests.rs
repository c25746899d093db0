//! Freezes that copy only what changed, with the kernel that is there.

use super::tracking::Tracker;
use super::*;
use crate::config::Tracking;
use crate::state::Array;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::sync::Arc;

/// Says that the test `name` can't be run here.
fn skip(name: &str, reason: &TrackingUnavailable) {
    let line = format!("SKIPPED: {name}: {reason}");
    println!("{line}");
    if let Some(path) = std::env::var_os("PITON_TEST_SKIPS")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let _ = writeln!(file, "{line}");
    }
}

/// A tracker, or the word that the test can't be run.
fn tracker(name: &str) -> Option<Arc<Tracker>> {
    Tracker::probe().map(Arc::new).map_err(|reason| skip(name, &reason)).ok()
}

fn session() -> Session {
    Session::start(Tracking::On, 4).0.unwrap()
}

fn mark(vector: &PagedVec<u64>) -> &Mark {
    vector.tracked().and_then(|mark| mark.downcast_ref()).unwrap()
}

/// A vector of so many pages, all of them different.
fn vector(pages: usize) -> PagedVec<u64> {
    let mut vector = PagedVec::new(pages * PAGE / 8).unwrap();
    vector.iter_mut().enumerate().for_each(|(index, element)| *element = index as u64 | 1);
    vector
}

fn freeze(staging: &mut Staging, fields: &[PagedVec<u64>], limit: u64) -> (Frozen, Option<String>) {
    let bytes: Vec<&[u8]> = fields.iter().map(Array::bytes).collect();
    let marks: Vec<Option<&Mark>> = fields.iter().map(|field| field.tracked()?.downcast_ref()).collect();
    let sizes: Vec<u64> = bytes.iter().map(|bytes| bytes.len() as u64).collect();
    staging.freeze(Plan::new(&sizes, 4 * PAGE as u64, limit), &bytes, &marks, None).unwrap()
}

fn listed(pages: &PageMap) -> Vec<usize> {
    pages.runs().flatten().collect()
}

#[test]
fn exactly_the_written_pages_are_reported() {
    let Some(tracker) = tracker("freeze::exactly_the_written_pages_are_reported") else { return };
    let mut vector = vector(3000);
    let look = |vector: &PagedVec<u64>| mark(vector).look(&tracker, vector.len() * 8).unwrap();
    let first = look(&vector);
    assert_eq!(first.since, None);
    assert_eq!(look(&vector).pages.count(), 0);
    for page in [0, 1, 700, 2999] {
        vector[page * PAGE / 8 + 5] = 9;
    }
    assert!(vector.iter().sum::<u64>() > 0, "reading is not writing");
    let second = look(&vector);
    assert_eq!(listed(&second.pages), [0, 1, 700, 2999]);
    assert!(second.since.is_some_and(|since| since > first.look) && second.look > second.since.unwrap());
    // What system calls write, as when a message or a file is received, is seen as well.
    let bytes = vector.bytes_mut();
    std::fs::File::open("/dev/zero").unwrap().read_exact(&mut bytes[100 * PAGE + 50..102 * PAGE]).unwrap();
    assert_eq!(listed(&look(&vector).pages), [100, 101]);
    assert_eq!(look(&vector).pages.count(), 0);
}

#[test]
fn pages_that_never_were_touched_are_seen_when_they_are() {
    let Some(tracker) = tracker("freeze::pages_that_never_were_touched_are_seen_when_they_are") else { return };
    let mut vector = PagedVec::<u64>::new(2000 * PAGE / 8).unwrap();
    let look = |vector: &PagedVec<u64>| mark(vector).look(&tracker, vector.len() * 8).unwrap();
    look(&vector);
    assert_eq!(vector.iter().sum::<u64>(), 0);
    let seen = |pages: &PageMap, page| pages.any(page..page + 1);
    vector[700 * PAGE / 8] = 1;
    assert!(seen(&look(&vector).pages, 700));
    vector[1999 * PAGE / 8] = 1;
    vector[700 * PAGE / 8] = 2;
    let pages = look(&vector).pages;
    assert!(seen(&pages, 700) && seen(&pages, 1999));
}

#[test]
fn two_sessions_do_not_take_each_others_pages() {
    let Some(one) = tracker("freeze::two_sessions_do_not_take_each_others_pages") else { return };
    let other = Arc::new(Tracker::probe().unwrap());
    let mut vector = vector(10);
    let first = mark(&vector).look(&one, vector.len() * 8).unwrap();
    assert!(mark(&vector).look(&other, vector.len() * 8).is_err());
    vector[0] = 3;
    let second = mark(&vector).look(&one, vector.len() * 8).unwrap();
    assert_eq!((second.since, listed(&second.pages)), (Some(first.look), vec![0]));
    drop(one);
    let third = mark(&vector).look(&other, vector.len() * 8).unwrap();
    assert_eq!(third.since, None, "the other one's looks are not continued");
    vector[PAGE / 8] = 3;
    assert_eq!(listed(&mark(&vector).look(&other, vector.len() * 8).unwrap().pages), [1]);
}

#[test]
fn only_written_pages_are_copied_and_named() {
    if tracker("freeze::only_written_pages_are_copied_and_named").is_none() {
        return;
    }
    let mut staging = Staging::default();
    staging.track(Some(session()));
    let mut fields = [vector(100), vector(50)];
    let (frozen, _) = freeze(&mut staging, &fields, u64::MAX);
    assert_eq!((&frozen.changed()[0], &frozen.changed()[1]), (&Changed::Unknown, &Changed::Unknown));
    let mut arena = frozen.into_arena();
    // Stands for what is not copied: the copy is left as it lies.
    arena.bytes_mut()[80 * PAGE] ^= 255;
    staging.put(arena);
    fields[0][7 * PAGE / 8] = 1 << 40;
    let (frozen, off) = freeze(&mut staging, &fields, u64::MAX);
    let Changed::Pages(pages) = &frozen.changed()[0] else { panic!("{:?}", &frozen.changed()[0]) };
    assert_eq!((listed(pages), off), (vec![7], None));
    assert_ne!(frozen.bytes(0), fields[0].bytes());
    assert_eq!(frozen.bytes(0)[..80 * PAGE], fields[0].bytes()[..80 * PAGE]);
    staging.put(frozen.into_arena());
    // The fourth copy compares, and finds it.
    let mut reason = None;
    for _ in 0..3 {
        assert_eq!(reason, None);
        let (frozen, off) = freeze(&mut staging, &fields, u64::MAX);
        reason = off;
        if reason.is_some() {
            assert_eq!((frozen.bytes(0), frozen.bytes(1)), (fields[0].bytes(), fields[1].bytes()));
            assert_eq!(&frozen.changed()[0], &Changed::Unknown);
        }
        staging.put(frozen.into_arena());
    }
    assert!(reason.is_some_and(|reason| reason.contains("field 0 changed in pages")));
    staging.changed_share(0.0);
    let (frozen, _) = freeze(&mut staging, &fields, u64::MAX);
    assert_eq!(&frozen.changed()[1], &Changed::Unknown, "off for good");
}

#[test]
fn where_much_is_written_everything_is_copied_until_little_changes() {
    if tracker("freeze::where_much_is_written_everything_is_copied_until_little_changes").is_none() {
        return;
    }
    let mut staging = Staging::default();
    staging.track(Some(session()));
    let mut fields = [vector(100)];
    let mut names_pages = |share: usize, staging: &mut Staging| {
        for page in 0..share {
            fields[0][page * PAGE / 8] += 1;
        }
        let (frozen, off) = freeze(staging, &fields, u64::MAX);
        assert_eq!((frozen.bytes(0), off), (fields[0].bytes(), None));
        let names = matches!(&frozen.changed()[0], Changed::Pages(_));
        staging.put(frozen.into_arena());
        names
    };
    assert!(!names_pages(0, &mut staging));
    assert!(names_pages(15, &mut staging));
    assert!(names_pages(16, &mut staging), "all copied, and it is known what changed");
    assert!(!names_pages(1, &mut staging) && !names_pages(1, &mut staging));
    staging.changed_share(0.05);
    assert!(!names_pages(1, &mut staging), "on again: the first look");
    assert!(names_pages(1, &mut staging));
}

#[test]
fn a_device_that_is_opened_later_ends_it() {
    if tracker("freeze::a_device_that_is_opened_later_ends_it").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (session, outcome) = Session::start_with(Tracking::Auto, 16, folder.path());
    assert_eq!(outcome, "on where little changes");
    let mut staging = Staging::default();
    staging.track(session);
    staging.changed_share(0.01);
    let fields = [vector(10)];
    let (frozen, off) = freeze(&mut staging, &fields, u64::MAX);
    assert_eq!(off, None);
    staging.put(frozen.into_arena());
    std::os::unix::fs::symlink("/dev/infiniband/uverbs0", folder.path().join("5")).unwrap();
    let (frozen, off) = freeze(&mut staging, &fields, u64::MAX);
    assert!(off.is_some_and(|reason| reason.contains("/dev/infiniband/uverbs0 may write")));
    assert_eq!(&frozen.changed()[0], &Changed::Unknown);
    staging.put(frozen.into_arena());
    assert_eq!(freeze(&mut staging, &fields, u64::MAX).1, None, "said once");
    let (session, outcome) = Session::start_with(Tracking::Auto, 16, folder.path());
    assert!(session.is_none() && outcome.starts_with("off: /dev/infiniband/uverbs0"), "{outcome}");
    assert!(Session::start_with(Tracking::On, 16, folder.path()).0.is_some(), "the user knows better");
}

/// Something that an application, or the session, does between two freezes.
#[derive(Debug, Clone)]
enum Deed {
    Write { field: usize, page: usize, value: u64 },
    Replace { field: usize },
    Resize { field: usize, length: usize },
    Swap,
    TrackingOff,
    TrackingOn,
    LoseArena,
    ChangedShare(f64),
    Freeze { limit: u64 },
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let field = 0usize..3;
    let freeze = prop_oneof![4 => Just(u64::MAX), 1 => (0u64..200).prop_map(|pages| pages * 1024)];
    let deed = prop_oneof![
        12 => (field.clone(), 0usize..60, any::<u64>())
            .prop_map(|(field, page, value)| Deed::Write { field, page, value }),
        8 => freeze.prop_map(|limit| Deed::Freeze { limit }),
        1 => field.clone().prop_map(|field| Deed::Replace { field }),
        1 => (field, 0usize..40_000).prop_map(|(field, length)| Deed::Resize { field, length }),
        1 => Just(Deed::Swap),
        1 => Just(Deed::TrackingOff),
        1 => Just(Deed::TrackingOn),
        1 => Just(Deed::LoseArena),
        1 => (0.0..0.3).prop_map(Deed::ChangedShare),
    ];
    proptest::collection::vec(deed, 0..80)
}

proptest! {
    #[test]
    fn a_copy_is_always_the_memory(deeds in deeds()) {
        if let Err(reason) = tracking_available() {
            skip("freeze::a_copy_is_always_the_memory", &reason);
            return Ok(());
        }
        let mut staging = Staging::default();
        staging.track(Some(session()));
        let mut fields = [vector(60), vector(20), vector(1)];
        // What the copy before had, by field.
        let mut before: Vec<Vec<u8>> = vec![Vec::new(); 3];
        for deed in deeds.into_iter().chain([Deed::Freeze { limit: u64::MAX }]) {
            match deed {
                Deed::Write { field, page, value } => {
                    if let Some(element) = fields[field].get_mut(page * PAGE / 8 + 3) {
                        *element = value;
                    }
                }
                Deed::Replace { field } => {
                    let contents = fields[field].to_vec();
                    fields[field] = PagedVec::new(0).unwrap();
                    // Likely at the same address.
                    fields[field] = PagedVec::from_slice(&contents).unwrap();
                }
                Deed::Resize { field, length } => fields[field].resize(length).unwrap(),
                Deed::Swap => fields.swap(0, 1),
                Deed::TrackingOff => staging.track(None),
                Deed::TrackingOn => staging.track(Some(session())),
                Deed::LoseArena => drop(staging.take(0).unwrap()),
                Deed::ChangedShare(share) => staging.changed_share(share),
                Deed::Freeze { limit } => {
                    let (frozen, off) = freeze(&mut staging, &fields, limit);
                    prop_assert_eq!(off, None);
                    for (index, field) in fields.iter().enumerate() {
                        let bytes = field.bytes();
                        prop_assert!(frozen.bytes(index) == &bytes[frozen.plan().streamed(index) as usize..]);
                        if let Changed::Pages(pages) = &frozen.changed()[index] {
                            prop_assert_eq!(before[index].len(), bytes.len());
                            for gap in pages.gaps_in(0..pages.pages()) {
                                let range = gap.start * PAGE..(gap.end * PAGE).min(bytes.len());
                                prop_assert!(before[index][range.clone()] == bytes[range], "field {index}, {gap:?}");
                            }
                        }
                        before[index] = bytes.to_vec();
                    }
                    staging.put(frozen.into_arena());
                }
            }
        }
    }
}

fn check(fields: &[Vec<u8>], chunk: u64, limit: u64, pool: Option<&rayon::ThreadPool>) {
    let sizes: Vec<u64> = fields.iter().map(|field| field.len() as u64).collect();
    let plan = Plan::new(&sizes, chunk, limit);
    assert!(plan.arena_bytes() <= limit, "{plan:?}");
    let arena = Arena::map(plan.arena_bytes()).unwrap();
    let sources = fields.iter().map(|bytes| Source { bytes, written: None }).collect();
    let frozen = Frozen::copy(arena, plan.clone(), sources, Way::Written, pool).unwrap();
    for (index, field) in fields.iter().enumerate() {
        let streamed = plan.streamed(index);
        assert!(streamed.is_multiple_of(chunk) || streamed == field.len() as u64);
        assert_eq!(frozen.bytes(index), &field[streamed as usize..]);
        assert_eq!(&frozen.changed()[index], &Changed::Unknown);
    }
}

#[test]
fn large_fields_are_copied_by_several_threads() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let field = |seed: usize, n: usize| (0..n).map(|i| ((i * 31 + seed) >> 3) as u8).collect::<Vec<_>>();
    check(&[field(1, 5 << 20), field(2, 0), field(3, 3), field(4, (4 << 20) + 1)], 1 << 16, u64::MAX, Some(&pool));
}

#[test]
fn a_plan_for_other_sizes_gives_the_arena_back() {
    let plan = Plan::new(&[10], 4, 1000);
    let source = |bytes| vec![Source { bytes, written: None }];
    assert!(Frozen::copy(Arena::map(64).unwrap(), plan.clone(), source(&[0; 11]), Way::Written, None).is_err());
    assert!(Frozen::copy(Arena::map(0).unwrap(), plan, source(&[0; 10]), Way::Written, None).is_err());
}

proptest! {
    #[test]
    fn what_is_not_streamed_is_copied(
        lengths in proptest::collection::vec(0usize..5000, 0..8),
        chunk in prop_oneof![Just(64u64), Just(256), Just(1024)],
        limit in prop_oneof![Just(u64::MAX), 0u64..20_000],
    ) {
        let fields: Vec<Vec<u8>> = lengths.iter().map(|&n| (0..n).map(|i| (i * 7 + n) as u8).collect()).collect();
        check(&fields, chunk, limit, None);
    }
}
