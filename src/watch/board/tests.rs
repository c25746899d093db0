use super::*;
use crate::watch::process::start_ticks;

fn name(epoch: u64) -> BoardName {
    let supervised = Supervised { run: 0xbeef, launch: 2 };
    BoardName { job: "walk".into(), store: "/scratch/store".into(), epoch: Epoch(epoch), token: 0xfeed, supervised }
}

const BEAT: Duration = Duration::from_millis(100);

#[test]
fn what_a_rank_says_is_seen_by_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = Board::make(folder.path(), &name(3), 2, 8, BEAT).expect("a board");
    let place = own.place(1, 5);
    // Another rank of the node joins, another process looks.
    let _joined = Board::make(folder.path(), &name(3), 2, 8, BEAT).expect("the same board");
    let seen = Board::open(own.path().expect("a file")).expect("it is there");
    assert_eq!(
        (seen.job().as_str(), seen.epoch(), seen.world(), seen.slots(), seen.beat()),
        ("walk", Epoch(3), 8, 2, BEAT)
    );
    assert_eq!(seen.supervised(), Supervised { run: 0xbeef, launch: 2 });
    assert_eq!(seen.store(), PathBuf::from("/scratch/store"));
    assert_eq!(seen.rank(0), None);
    let rank = seen.rank(1).expect("it has come");
    assert_eq!((rank.rank, rank.pid, rank.presence), (5, std::process::id(), Presence::Arrived));
    assert_eq!(Some(rank.start_ticks), start_ticks(std::process::id()));

    place.computing(10);
    for step in 11..=20 {
        place.step(step);
        place.step(step);
    }
    place.beat(Duration::from_millis(2));
    place.error("a disk is full");
    let rank = seen.rank(1).expect("it is there");
    assert_eq!((rank.step, rank.steps.count, rank.beats, rank.late_ns, rank.errors), (20, 10, 1, 2_000_000, 1));
    assert_eq!(seen.error(1).as_deref(), Some("a disk is full"));
    assert_eq!(rank.presence, Presence::Computing);

    seen.watched_by(77);
    assert_eq!((place.watcher(), own.watcher().map(|(pid, _)| pid)), (Some(77), Some(77)));
    place.leave();
    assert_eq!(seen.rank(1).map(|rank| rank.presence), Some(Presence::Left));
    assert!(!place.is_last(), "slot 0 is still awaited");
}

#[test]
fn fast_steps_share_a_look_at_the_clock_and_slow_ones_do_not() {
    let board = Board::unseen(1).expect("memory");
    let place = board.place(0, 0);
    let seen = || board.rank(0).expect("there");
    let spin = |nanoseconds: u64| {
        let until = now_ns() + nanoseconds;
        while now_ns() < until {
            std::hint::spin_loop();
        }
    };
    let mut step = 0;
    let mut fast = |nanoseconds: u64| {
        let until = std::time::Instant::now() + Duration::from_nanos(nanoseconds);
        while std::time::Instant::now() < until {
            step += 1;
            place.step(step);
        }
        step
    };
    place.computing(0);
    let made = fast(40_000_000);
    assert_eq!(seen().steps.count, made, "without a beat, each step is timed");
    place.beat(Duration::ZERO);
    let made = fast(40_000_000);
    let rank = seen();
    assert_eq!(rank.step, made);
    assert!(made - rank.steps.count <= 5000, "{} of {made} were counted", rank.steps.count);
    assert!((rank.steps.total - 0.08).abs() < 0.02, "{} s", rank.steps.total);
    // Another one, with the next one far off: half-way between the beats it is dated, and the next one is timed by itself.
    place.beat(Duration::ZERO);
    place.step(made + 1);
    spin(20_000_000);
    place.beat(Duration::ZERO);
    place.step(made + 2);
    spin(20_000_000);
    let before = now_ns();
    place.beat(Duration::ZERO);
    assert!(seen().stepped_at < before);
    place.step(made + 3);
    assert_eq!(seen().steps.count, made + 3, "those that shared a look are counted with the next one");
    assert!(seen().stepped_at >= before);
    // What was counted late looks like many steps once more, and no longer.
    for step in made + 4..made + 7 {
        spin(5_000_000);
        place.beat(Duration::ZERO);
        place.step(step);
    }
    assert_eq!(seen().steps.count, made + 6);
}

#[test]
fn phases_nest_and_are_timed() {
    let board = Board::unseen(1).expect("memory");
    let place = board.place(0, 0);
    place.computing(0);
    let outer = place.enter("compute", false);
    assert_eq!(board.rank(0).and_then(|rank| rank.phase), Some(0));
    {
        let _inner = place.enter("halo exchange", true);
        assert_eq!(board.rank(0).and_then(|rank| rank.phase), Some(1));
        let until = now_ns() + 20_000_000;
        while now_ns() < until {
            std::hint::spin_loop();
        }
    }
    assert_eq!(board.rank(0).and_then(|rank| rank.phase), Some(0));
    drop(outer);
    drop(place.enter("halo exchange", true));
    let rank = board.rank(0).expect("there");
    assert_eq!(rank.phase, None);
    assert!(rank.waiting >= 0.02, "{}", rank.waiting);
    let halo = board.phase(0, 1).expect("named");
    assert_eq!((halo.name.as_str(), halo.waits, halo.taken.count), ("halo exchange", true, 2));
    assert_eq!(board.phase(0, 2), None);
    // More than there is place for count as none.
    let names: Vec<&'static str> = (0..20).map(|n| &*Box::leak(format!("phase {n}").into_boxed_str())).collect();
    let guards: Vec<Phase> = names.iter().map(|name| place.enter(name, false)).collect();
    assert_eq!(board.rank(0).and_then(|rank| rank.phase), None);
    for guard in guards.into_iter().rev() {
        drop(guard);
    }
}

#[test]
fn one_long_step_says_nothing_two_do() {
    let board = Board::unseen(1).expect("memory");
    let place = board.place(0, 0);
    place.computing(0);
    let pause = |milliseconds: u64| {
        let until = now_ns() + milliseconds * 1_000_000;
        while now_ns() < until {
            std::hint::spin_loop();
        }
    };
    pause(80);
    place.step(1);
    place.step(2);
    assert!(board.rank(0).expect("there").steps.long < 0.05);
    pause(80);
    place.step(3);
    assert!(board.rank(0).expect("there").steps.long >= 0.07);
    // A checkpoint is none of the application's time.
    pause(200);
    place.resting();
    place.step(4);
    assert!(board.rank(0).expect("there").steps.long < 0.15);
}

#[test]
fn boards_are_found_by_their_job_and_removed_when_their_ranks_are_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    for epoch in [1, 2] {
        let board = Board::make(folder.path(), &name(epoch), 1, 1, BEAT).expect("a board");
        let place = board.place(0, 0);
        if epoch == 1 {
            place.leave();
        }
    }
    let other = BoardName { store: "/elsewhere".into(), ..name(1) };
    Board::make(folder.path(), &other, 1, 1, BEAT).expect("a board");
    std::fs::write(folder.path().join("piton-0-junk.board"), "no board").expect("a file");
    let epochs = |job| Board::find(folder.path(), job).iter().map(|(_, board)| board.epoch().0).collect::<Vec<_>>();
    let job = ("walk", Path::new("/scratch/store"));
    assert_eq!(epochs(Some(job)), [1, 2]);
    assert_eq!(epochs(None).len(), 3);
    // The rank of the second is this process, which lives.
    Board::clean(folder.path(), &name(3));
    assert_eq!(epochs(Some(job)), [2]);
}

#[test]
fn what_is_no_board_of_ours_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name(1).file_name());
    std::fs::write(&path, vec![0; layout::bytes(1)]).expect("a file");
    let refused = |what: &str| {
        let error = Board::open(&path).expect_err("refused").to_string();
        assert!(error.contains(what), "{error}");
    };
    refused("others than its owner");
    let mode =
        |mode| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("ours");
    mode(0o600);
    refused("no board");
    let board = Board::make(folder.path(), &name(1), 1, 1, BEAT).expect("a board");
    // Of more slots than it has room for.
    board.memory.header().slots.store(1 << 40, Ordering::Relaxed);
    refused("length");
    board.memory.header().version.store(9, Ordering::Relaxed);
    refused("version 9");
    std::fs::remove_file(&path).expect("ours");
    std::os::unix::fs::symlink("/etc/hostname", &path).expect("a link");
    assert!(Board::open(&path).is_err() && Board::make(folder.path(), &name(1), 1, 1, BEAT).is_err());
}

#[test]
fn ranks_that_are_not_what_they_should_be_are_bounded() {
    let board = Board::unseen(1).expect("memory");
    let place = board.place(0, 0);
    place.computing(0);
    // Whatever stands in a slot, nothing is read beyond it.
    let slot = board.memory.slot(0);
    for word in [&slot.phases, &slot.phase, &slot.rank, &slot.pid, &slot.stepped_at] {
        word.store(u64::MAX, Ordering::Relaxed);
    }
    let rank = board.rank(0).expect("there");
    assert_eq!(board.phase(0, rank.phase.unwrap_or(0)), None);
    assert!(board.phase(0, 15).is_some());
    let _ = board.error(0);
}
