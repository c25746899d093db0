use super::*;
use std::panic::AssertUnwindSafe;

const FOLDER: &str = "/store";
const FINAL: &str = "/store/manifest.json";
const TEMPORARY: &str = "/store/manifest.json.tmp";

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn text(version: u8) -> Vec<u8> {
    vec![b'0' + version; 700]
}

/// The right sequence: makes `bytes` durable as the final name.
fn replace(medium: &dyn Medium, bytes: &[u8]) -> io::Result<()> {
    let mut file = medium.create(path(TEMPORARY))?;
    file.write_at(0, &bytes[..300])?;
    file.write_at(300, &bytes[300..])?;
    file.sync()?;
    medium.rename(path(TEMPORARY), path(FINAL))?;
    medium.sync_dir(path(FOLDER))
}

/// Two versions one after the other, with a note after each.
fn two_versions(medium: &RecordingMedium) {
    for version in 1..=2 {
        replace(medium, &text(version)).unwrap();
        medium.note(format!("{version}"));
    }
}

/// Panics unless every crash state has the version promised, or the one after it, whole.
fn check_promises(medium: &RecordingMedium) -> CrashCount {
    medium.for_each_crash(256, 1, |point, image| {
        let found = image.file(FINAL);
        let promised = point.notes().len();
        let allowed = [promised, (promised + 1).min(2)];
        let version = match found {
            None => 0,
            Some(bytes) => (1..=2).find(|version| bytes == text(*version as u8)).expect("torn"),
        };
        assert!(allowed.contains(&version), "promised {promised}, found {version} before {:?}", point.before());
        // Whatever is left, the next attempt works on it.
        let after = RecordingMedium::from_image(image);
        if after.exists(path(TEMPORARY)).unwrap() {
            after.remove_file(path(TEMPORARY)).unwrap();
        }
        replace(&after, &text(2)).unwrap();
        assert_eq!(after.snapshot().durable_image().file(FINAL), Some(text(2).as_slice()));
    })
}

#[test]
fn the_right_sequence_survives_every_crash() {
    let medium = RecordingMedium::with_folder(FOLDER);
    two_versions(&medium);
    let count = check_promises(&medium);
    assert!(count.points == 13 && count.images >= 20, "{count:?}");
}

#[test]
fn taking_away_any_safeguard_is_noticed() {
    let medium = RecordingMedium::with_folder(FOLDER);
    two_versions(&medium);
    let roles = medium.safeguards();
    let expected = ["rename manifest.json.tmp -> manifest.json", "sync file manifest.json.tmp", "sync folder store"];
    assert_eq!(roles.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    for role in roles {
        let medium = RecordingMedium::with_folder(FOLDER);
        medium.sabotage_role(&role);
        two_versions(&medium);
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| check_promises(&medium)));
        assert!(outcome.is_err(), "without {role} nothing was lost");
    }
}

#[test]
fn only_what_was_synced_survives_for_certain() {
    let medium = RecordingMedium::with_folder(FOLDER);
    let mut file = medium.create(path("/store/a")).unwrap();
    file.write_at(0, b"durable").unwrap();
    assert!(medium.snapshot().durable_image().file("/store/a").is_none());
    file.sync().unwrap();
    assert!(medium.snapshot().durable_image().file("/store/a").is_none(), "its name is not durable");
    medium.sync_dir(path(FOLDER)).unwrap();
    file.write_at(0, b"pending").unwrap();
    file.set_len(3).unwrap();
    let snapshot = medium.snapshot();
    assert_eq!(snapshot.durable_image().file("/store/a"), Some(&b"durable"[..]));
    assert_eq!(snapshot.live_image().file("/store/a"), Some(&b"pen"[..]));
    let mut found: Vec<_> =
        medium.crash_images(256, 0).iter().map(|image| image.file("/store/a").unwrap().to_vec()).collect();
    found.sort();
    assert_eq!(found, [&b"dur"[..], b"durable", b"pen", b"pending"]);
}

#[test]
fn names_persist_as_prefixes_or_with_one_missing() {
    let medium = RecordingMedium::with_folder(FOLDER);
    for name in ["/store/a", "/store/b", "/store/c"] {
        drop(medium.create(path(name)).unwrap());
    }
    let found: BTreeSet<String> = medium
        .crash_images(256, 0)
        .iter()
        .map(|image| image.files().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect())
        .collect();
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ["", "a", "ab", "abc", "ac", "bc"]);
}

#[test]
fn a_lost_folder_takes_along_what_is_in_it() {
    let medium = RecordingMedium::with_folder(FOLDER);
    assert!(medium.create_dir(path("/store/1")).unwrap());
    assert!(!medium.create_dir(path("/store/1")).unwrap());
    drop(medium.create(path("/store/1/a")).unwrap());
    medium.sync_dir(path("/store/1")).unwrap();
    assert_eq!(medium.snapshot().durable_image().files().count(), 0);
    medium.sync_dir(path(FOLDER)).unwrap();
    assert_eq!(medium.snapshot().durable_image().files().count(), 1);
    medium.remove_file(path("/store/1/a")).unwrap();
    medium.remove_dir(path("/store/1")).unwrap();
    let images = medium.crash_images(256, 0);
    assert!(images.iter().any(|image| image.files().count() == 1), "nothing of the removal persisted");
    assert!(images.iter().any(|image| image.folders().count() == 1), "the folder went");
    assert!(images.iter().any(|image| image.folders().count() == 2 && image.files().count() == 0));
}

#[test]
fn links_are_one_file_and_exclusive() {
    let medium = RecordingMedium::with_folder(FOLDER);
    let mut file = medium.create(path("/store/claim.tmp")).unwrap();
    file.write_at(0, b"me").unwrap();
    medium.link(path("/store/claim.tmp"), path("/store/1.json")).unwrap();
    let again = medium.link(path("/store/claim.tmp"), path("/store/1.json"));
    assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    file.write_at(0, b"us").unwrap();
    assert_eq!(medium.bytes("/store/1.json").unwrap(), b"us");
    // Of an image too.
    let copy = RecordingMedium::from_image(&medium.snapshot().live_image());
    let (mut file, len) = copy.append(path("/store/claim.tmp")).unwrap();
    file.write_at(len, b"!").unwrap();
    assert_eq!(copy.bytes("/store/1.json").unwrap(), b"us!");
    // A rename onto another name of the same file leaves both, as POSIX has it.
    copy.rename(path("/store/claim.tmp"), path("/store/1.json")).unwrap();
    assert!(copy.exists(path("/store/claim.tmp")).unwrap());
}

#[test]
fn misuse_is_refused_as_systems_do() {
    let medium = RecordingMedium::with_folder("/store/a");
    medium.create_dir(path("/store/b")).unwrap();
    drop(medium.create(path("/store/file")).unwrap());
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(medium.create(path("/store/file")).map(drop)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(medium.create(path("/none/file")).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(medium.create(path("/store/file/x")).map(drop)), io::ErrorKind::NotADirectory);
    assert_eq!(kind(medium.create(path("/store/../x")).map(drop)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(medium.create_dir(path("/store/file")).map(drop)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(medium.open(path("/store/a")).map(drop)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(medium.open(path("/store/none")).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(medium.remove_file(path("/store/a"))), io::ErrorKind::IsADirectory);
    assert_eq!(kind(medium.remove_dir(path("/store"))), io::ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(medium.rename(path("/store/file"), path("/store/a"))), io::ErrorKind::IsADirectory);
    assert_eq!(kind(medium.rename(path("/store/file"), path("/store/a/file"))), io::ErrorKind::Unsupported);
    assert_eq!(kind(medium.sync_dir(path("/store/file"))), io::ErrorKind::NotADirectory);
    medium.rename(path("/store/a"), path("/store/b")).unwrap();
    let names: Vec<_> = medium.list(path(FOLDER)).unwrap().into_iter().map(|entry| (entry.name, entry.kind)).collect();
    assert_eq!(names, [("b".to_owned(), EntryKind::Folder), ("file".to_owned(), EntryKind::File)]);
    let mut buffer = [0; 4];
    let short = medium.open(path("/store/file")).unwrap().read_at(0, &mut buffer);
    assert_eq!(short.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let huge = medium.append(path("/store/file")).unwrap().0.set_len(u64::MAX);
    assert_eq!(huge.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
}

#[test]
fn faults_fail_once_or_always_and_a_failed_sync_is_never_made_good() {
    let medium = RecordingMedium::with_folder(FOLDER);
    medium.fail_when(nix::libc::EIO, 1, |operation| operation.kind == OperationKind::Sync);
    let mut file = medium.create(path("/store/a")).unwrap();
    medium.sync_dir(path(FOLDER)).unwrap();
    file.write_at(0, b"bytes").unwrap();
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(nix::libc::EIO));
    file.sync().unwrap();
    assert_eq!(medium.snapshot().durable_image().file("/store/a"), Some(&b""[..]), "the second sync lied");
    medium.fail_at(medium.count() + 1, nix::libc::ENOSPC, true);
    file.write_at(0, b"BYTES").unwrap();
    assert_eq!(file.write_at(0, b"wxyz").unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(medium.bytes("/store/a").unwrap(), b"wxTES", "half of it was written");
    assert!(medium.list(path(FOLDER)).is_err());
    medium.heal();
    assert_eq!(medium.list(path(FOLDER)).unwrap().len(), 1);
    let failed: Vec<_> = medium.operations().into_iter().filter_map(|operation| operation.failed).collect();
    assert_eq!(failed.len(), 3);
}

#[test]
fn a_full_medium_has_room_again_once_something_is_removed() {
    let medium = RecordingMedium::with_folder(FOLDER);
    medium.set_capacity(Some(10));
    let mut file = medium.create(path("/store/a")).unwrap();
    file.write_at(0, b"eight by").unwrap();
    assert_eq!(medium.room(path(FOLDER)).unwrap(), Some(2));
    assert_eq!(file.write_at(8, b"abc").unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.write_at(0, b"ab").unwrap();
    drop(file);
    medium.remove_file(path("/store/a")).unwrap();
    assert_eq!(medium.room(path(FOLDER)).unwrap(), Some(10));
    medium.set_room(Some(3));
    assert_eq!(medium.room(path(FOLDER)).unwrap(), Some(3));
}

#[test]
fn a_killed_rank_has_no_effect_any_more_and_the_others_have() {
    let medium = RecordingMedium::with_folder(FOLDER);
    let switch = Arc::new(KillSwitch::at(3));
    let (dying, living) = (medium.for_rank(0, Arc::clone(&switch)), medium.for_rank(1, Arc::new(KillSwitch::new())));
    let mut file = dying.create(path("/store/a")).unwrap();
    file.write_at(0, b"before").unwrap();
    assert!(file.write_at(0, b"after!").is_err());
    assert!(file.sync().is_err() && dying.sync_dir(path(FOLDER)).is_err() && dying.open(path("/store/a")).is_err());
    assert_eq!(switch.place().unwrap(), "write file a");
    assert_eq!(medium.bytes("/store/a").unwrap(), b"before");
    living.sync_dir(path(FOLDER)).unwrap();
    assert_eq!(medium.operations().last().unwrap().rank, Some(1));
    assert_eq!(medium.operations().len(), 3, "what had no effect is not in the log");
}

#[test]
fn a_held_operation_waits_for_its_release_or_its_death() {
    let medium = RecordingMedium::with_folder(FOLDER);
    let hold = medium.hold(|operation| operation.kind == OperationKind::Create);
    let switch = Arc::new(KillSwitch::new());
    let (free, dying) = (medium.clone(), medium.for_rank(0, Arc::clone(&switch)));
    std::thread::scope(|scope| {
        let doomed = scope.spawn(move || dying.create(path("/store/b")).is_err());
        assert!(hold.wait_until_reached(Duration::from_secs(20)));
        switch.throw("test");
        assert!(doomed.join().unwrap());
        let waiting = scope.spawn(move || free.create(path("/store/a")).is_ok());
        assert!(hold.wait_until_reached(Duration::from_secs(20)));
        assert!(!medium.exists(path("/store/a")).unwrap());
        drop(hold);
        assert!(waiting.join().unwrap());
        assert!(medium.exists(path("/store/a")).unwrap() && !medium.exists(path("/store/b")).unwrap());
    });
}

#[test]
fn threads_at_once_leave_one_consistent_log() {
    let medium = RecordingMedium::with_folder(FOLDER);
    std::thread::scope(|scope| {
        for rank in 0..4 {
            let medium = medium.for_rank(rank, Arc::new(KillSwitch::new().delayed(rank as u64)));
            scope.spawn(move || {
                let name = format!("/store/rank-{rank}.shard");
                let mut file = medium.create(path(&name)).unwrap();
                for block in 0..16 {
                    file.write_at(block * 64, &[rank as u8; 64]).unwrap();
                }
                file.sync().unwrap();
                medium.sync_dir(path(FOLDER)).unwrap();
            });
        }
    });
    let operations = medium.operations();
    assert!(operations.iter().enumerate().all(|(at, operation)| operation.index == at as u64));
    assert_eq!(operations.len(), 4 * 19);
    assert_eq!(medium.safeguards().into_iter().collect::<Vec<_>>(), ["sync file rank-#.shard", "sync folder store"]);
    let durable = medium.snapshot().durable_image();
    assert!((0..4).all(|rank| durable.file(format!("/store/rank-{rank}.shard")) == Some(&[rank as u8; 1024][..])));
    let count = medium.for_each_crash(32, 5, |_, _| ());
    assert!(count.images > 100 && count.images < 76 * 34, "{count:?}");
}

#[test]
fn bit_rot_and_lost_folders_can_be_played() {
    let medium = RecordingMedium::with_folder("/store/job");
    drop(medium.create(path("/store/job/a")).unwrap());
    medium.sync_dir(path("/store/job")).unwrap();
    assert!(medium.alter("/store/job/a", |bytes| bytes.push(1)) && !medium.alter("/store/b", Vec::clear));
    assert_eq!(medium.snapshot().durable_image().file("/store/job/a"), Some(&[1][..]));
    let mut open = medium.append(path("/store/job/a")).unwrap().0;
    assert!(medium.erase("/store/job") && !medium.erase("/store/job"));
    assert_eq!(medium.create(path("/store/job/b")).unwrap_err().kind(), io::ErrorKind::NotFound);
    open.write_at(0, b"x").unwrap();
    assert_eq!(medium.crash_images(9, 0).len(), 1);
}

#[test]
fn without_recording_there_is_no_log_and_the_state_is_the_same() {
    let medium = RecordingMedium::with_folder(FOLDER);
    medium.set_recording(false);
    two_versions(&medium);
    assert!(medium.events().is_empty() && medium.count() == 12);
    assert_eq!(medium.snapshot().durable_image().file(FINAL), Some(text(2).as_slice()));
}
