use super::*;
use std::fs;

/// Two values of every setting, both different from the default.
fn samples(setting: &Setting) -> [&'static str; 2] {
    match setting.key {
        "dir" => ["here", "there"],
        "resume" => ["required", "3/12"],
        "compression" => ["raw", "7"],
        "cpus" => ["own", "0-2,4"],
        "files" => ["node", "rank"],
        "nice" => ["0", "19"],
        "log" => ["quiet", "verbose"],
        "tracking" => ["on", "off"],
        "chunk" => ["64KiB", "2MiB"],
        "bandwidth_max" => ["64MiB", "1GB"],
        "staging_max" => ["64MiB", "12.5%"],
        "every" => ["90s", "off"],
        "mtbf" | "node_mtbf" => ["8h", "20d"],
        "allocation_end" => ["2h", "@1800000000"],
        "site_failures" => ["/here.csv", "/there.csv"],
        "board" => ["off", "/dev/shm"],
        "rules" | "application_log" | "http_token" => ["/here.toml", "/there.toml"],
        "http" => ["127.0.0.1:9464", "[::1]:0"],
        "fresh" | "take_over" | "group" => ["true", "false"],
        "agent" | "signals" => ["false", "true"],
        _ => match setting.form {
            Form::Time { .. } => ["90s", "1min"],
            Form::Count { .. } => ["7", "9"],
            _ => panic!("give {} two values to be tested with", setting.key),
        },
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Loads from what is given, in a folder of its own with this `piton.toml`.
fn load(
    file: &str,
    builder: &[(&'static str, &str)],
    environment: &[(&str, &str)],
    arguments: &[&str],
) -> (tempfile::TempDir, Result<Settings, ConfigError>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE_NAME), file).unwrap();
    let mut layer = Layer::default();
    for (key, value) in builder {
        layer.set(key, value);
    }
    let settings = Settings::load(Some("tsunami"), &layer, arguments, variables(environment), folder.path());
    (folder, settings)
}

fn problem(file: &str, builder: &[(&'static str, &str)], environment: &[(&str, &str)], arguments: &[&str]) -> String {
    let (folder, settings) = load(file, builder, environment, arguments);
    settings.unwrap_err().to_string().replace(&format!("{}/", folder.path().display()), "")
}

fn shown(settings: &Settings, key: &str) -> String {
    settings.table().into_iter().find(|row| row.key == key).unwrap().value
}

#[test]
fn every_default_is_read_by_its_own_parser_and_is_shown_as_written() {
    for setting in SETTINGS {
        let mut settings = Settings::default();
        (setting.assign)(&mut settings, setting.default).unwrap();
        assert_eq!((setting.show)(&settings), setting.default, "{}", setting.key);
        assert_eq!((setting.show)(&Settings::default()), setting.default, "{}", setting.key);
        assert_eq!(setting.environment, format!("PITON_{}", setting.key.to_uppercase()));
    }
}

#[test]
fn each_setting_obeys_each_layer_over_all_those_below() {
    for setting in SETTINGS {
        let key = setting.key;
        let argument = |value: &str| format!("--piton.{key}={value}");
        // At layer n, all layers up to n are given; n has the one value and the others have the other.
        for layer in 0..=4 {
            let [low, high] = samples(setting);
            let value = |at: usize| if at == layer { high } else { low };
            let file = format!("{key} = \"{}\"\n", value(2));
            let (folder, settings) = load(
                if layer >= 2 { &file } else { "" },
                &[(key, value(1))][..usize::from(layer >= 1)],
                &[(setting.environment, value(3))][..usize::from(layer >= 3)],
                &[argument(value(4)).as_str()][..usize::from(layer >= 4)],
            );
            let settings = settings.unwrap();
            let expected = match layer {
                0 => Origin::Default,
                1 => Origin::Builder,
                2 => Origin::File { path: folder.path().join(FILE_NAME), line: 1 },
                3 => Origin::Environment { variable: setting.environment.to_owned() },
                _ => Origin::CommandLine { argument: argument(high) },
            };
            assert_eq!(settings.origin(key), Some(&expected), "{key} at layer {layer}");
            let mut alone = Settings::default();
            (setting.assign)(&mut alone, if layer == 0 { setting.default } else { high }).unwrap();
            alone.dir = folder.path().join(&alone.dir);
            assert_eq!(shown(&settings, key), shown(&alone, key), "{key} at layer {layer}");
            // And nothing else has moved.
            for other in settings.table().iter().filter(|row| row.key != key) {
                assert_eq!(other.origin, Origin::Default, "{} while {key} was set", other.key);
            }
        }
    }
}

#[test]
fn what_the_supervisor_decides_goes_before_the_command_line() {
    let environment = [("PITON_INTERNAL_RESUME", "latest"), ("PITON_FRESH", "true")];
    for arguments in [&["--fresh"][..], &["--resume=12"], &[]] {
        let settings = load("", &[], &environment[..1], arguments).1.unwrap();
        assert_eq!((settings.resume, settings.fresh), (ResumeRequest::Latest, false), "{arguments:?}");
        assert_eq!(settings.origin("resume"), Some(&Origin::Supervisor));
    }
    let settings = load("", &[], &environment, &[]).1.unwrap();
    assert_eq!((settings.resume, settings.fresh), (ResumeRequest::Latest, false));
    let nonsense = load("", &[], &[("PITON_INTERNAL_RESUME", "12")], &["--fresh"]).1.unwrap();
    assert_eq!((nonsense.resume, nonsense.fresh), (ResumeRequest::Off, true));
}

#[test]
fn tables_of_jobs_win_for_their_job_only() {
    let file = "every = 60\nkeep = 5\n\n[job.tsunami]\nevery = \"2min\"\n[job.heat]\nevery = 1.5\nkeep = 9\n";
    let (folder, settings) = load(file, &[], &[], &[]);
    let settings = settings.unwrap();
    assert_eq!((settings.every, settings.keep), (Every::Fixed(Duration::from_secs(120)), 5));
    let path = folder.path().join(FILE_NAME);
    assert_eq!(settings.origin("every"), Some(&Origin::File { path: path.clone(), line: 5 }));
    let heat = Settings::load(Some("heat"), &Layer::default(), [""; 0], [], folder.path()).unwrap();
    assert_eq!((heat.every, heat.keep), (Every::Fixed(Duration::from_millis(1500)), 9));
    let none = Settings::load(None, &Layer::default(), [""; 0], [], folder.path()).unwrap();
    assert_eq!((none.every, none.keep, none.file), (Every::Fixed(Duration::from_secs(60)), 5, Some(path)));
}

#[test]
fn our_arguments_are_read_and_the_others_left_alone() {
    let mine = ["heat", "--size", "64x64", "--resume", "12", "--fresher", "--piton", "-r", "--take-over"];
    let settings = load("", &[], &[], &mine).1.unwrap();
    assert_eq!((settings.resume, settings.take_over, settings.fresh), (ResumeRequest::Latest, true, false));
    for (argument, expected) in [
        ("--resume=latest", ResumeRequest::Latest),
        ("--resume=required", ResumeRequest::Required),
        ("--resume=off", ResumeRequest::Off),
        ("--resume=12", ResumeRequest::Checkpoint("12".parse().unwrap())),
        ("--piton.resume=3/12", ResumeRequest::Checkpoint("3/12".parse().unwrap())),
    ] {
        assert_eq!(load("", &[], &[], &[argument]).1.unwrap().resume, expected, "{argument}");
    }
    assert!(load("", &[], &[], &["--piton.group"]).1.unwrap().group);
    assert!(!load("", &[], &[("PITON_GROUP", "true")], &["--piton.group=off"]).1.unwrap().group);
    assert_eq!(load("", &[], &[], &["--", "--piton.nonsense=1"]).1.unwrap().resume, ResumeRequest::Off);
}

#[test]
fn a_fresh_start_and_a_resume_exclude_each_other() {
    let settings = load("", &[], &[("PITON_RESUME", "latest")], &["--fresh"]).1.unwrap();
    assert_eq!((settings.fresh, settings.resume), (true, ResumeRequest::Off));
    let settings = load("fresh = true", &[], &[], &["--resume"]).1.unwrap();
    assert_eq!((settings.fresh, settings.resume), (false, ResumeRequest::Latest));
    assert_eq!(settings.origin("fresh"), settings.origin("resume"));
    let text = problem("", &[], &[], &["--fresh", "--resume=3"]);
    assert_eq!(
        text,
        "argument --fresh asks for a start afresh, and argument --resume=3 for a resume: leave one of them out"
    );
}

#[test]
fn what_is_unknown_is_refused_with_a_suggestion() {
    assert_eq!(
        problem("keep = 3\nevrey = 5\n", &[], &[], &[]),
        "piton.toml, line 2: there is no setting `evrey`; did you mean `every`?; `piton config` lists them all"
    );
    assert_eq!(
        problem("[job.other]\nkeeep = 3\n", &[], &[], &[]),
        "piton.toml, line 2: there is no setting `keeep`; did you mean `keep`?; `piton config` lists them all"
    );
    assert_eq!(
        problem("", &[], &[("PITON_EVERY_STEP", "5")], &[]),
        "environment variable PITON_EVERY_STEP: there is no setting `PITON_EVERY_STEP`; did you mean \
         `PITON_EVERY_STEPS`?; `piton config` lists them all"
    );
    assert_eq!(
        problem("", &[], &[], &["--piton.unknwon=5"]),
        "argument --piton.unknwon=5: there is no setting `unknwon`; `piton config` lists them all"
    );
    assert!(problem("", &[], &[], &["--piton.every-steps"]).contains("did you mean `every_steps`?"));
    assert!(problem("", &[("lagg", "1")], &[], &[]).starts_with("the program's builder: there is no setting `lagg`"));
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    assert_eq!(
        problem("\n\nkeep = 0\n", &[], &[], &[]),
        "piton.toml, line 3: `keep` cannot be `0`: it takes a whole number from 1 to 1000000"
    );
    assert_eq!(
        problem("every = \"soon\"", &[], &[], &[]),
        "piton.toml, line 1: `every` cannot be `soon`: a time is a number with a unit, as in `90s`, `250ms`, `5min` or \
         `1h30min`; it takes `auto`, a time up to 365d, or `off` (0)"
    );
    assert_eq!(
        problem("", &[], &[("PITON_CHUNK", "100KiB")], &[]),
        "environment variable PITON_CHUNK: `chunk` cannot be `100KiB`: it takes a power of two from 64KiB to 16MiB"
    );
    assert_eq!(
        problem("", &[], &[], &["--resume=newest"]),
        "argument --resume=newest: `resume` cannot be `newest`: it takes `off`, `latest`, `required`, \
         `ID` or `EPOCH/ID`"
    );
    assert_eq!(problem("", &[], &[], &["--piton.keep"]), "argument --piton.keep: write --piton.keep=VALUE");
    assert_eq!(problem("dir = 5", &[], &[], &[]), "piton.toml, line 1: `dir` cannot be `5`: it takes a folder");
    assert!(problem("keep = [1]", &[], &[], &[]).starts_with("piton.toml, line 1: `keep` cannot be"));
    assert!(problem("keep = 2\nkeep = 3", &[], &[], &[]).starts_with("piton.toml, line 2: duplicate key"));
    assert!(problem("keep = 2\n\nwhat?", &[], &[], &[]).starts_with("piton.toml, line 3: "));
    assert!(problem("job = 3", &[], &[], &[]).starts_with("piton.toml, line 1: settings of one job stand in a table"));
    assert!(problem("[job]\nkeep = 3", &[], &[], &[]).contains("settings of one job stand in a table"));
    assert!(problem("", &[("lag", "65")], &[], &[]).starts_with("the program's builder: `lag` cannot be `65`"));
    // Hidden by a later layer, and wrong all the same.
    assert!(problem("keep = 0", &[], &[], &["--piton.keep=3"]).starts_with("piton.toml, line 1"));
}

#[test]
fn reserved_and_empty_variables_are_left_alone() {
    let environment = [("PITON_TEST_SEED", "7"), ("PITON_INTERNAL_BOARD", "x"), ("PITON_KEEP", ""), ("HOME", "/")];
    let settings = load("", &[], &environment, &[]).1.unwrap();
    assert_eq!(settings.origin("keep"), Some(&Origin::Default));
}

#[cfg(unix)]
#[test]
fn what_is_not_text_is_refused_only_where_it_is_ours() {
    use std::os::unix::ffi::OsStringExt;
    let load = |argument: &[u8], variable: &str, value: &[u8]| {
        let environment = [(variable.into(), OsString::from_vec(value.to_vec()))];
        Settings::load(
            None,
            &Layer::default(),
            [OsString::from_vec(argument.to_vec())],
            environment,
            Path::new("/nowhere"),
        )
    };
    assert!(load(b"\xff", "OTHER", b"\xff").is_ok());
    assert!(load(b"--piton.dir=\xff", "OTHER", b"").unwrap_err().to_string().contains("not text in UTF-8"));
    assert!(load(b"", "PITON_DIR", b"\xff").unwrap_err().to_string().contains("environment variable PITON_DIR"));
}

#[test]
fn another_file_can_be_named_and_must_then_be_there() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("piton.toml"), "keep = 3").unwrap();
    fs::write(folder.path().join("sub/a.toml"), "keep = 4\ndir = \"store\"").unwrap();
    fs::write(folder.path().join("sub/b.toml"), "keep = 5").unwrap();
    let load = |arguments: &[&str], environment: &[(&str, &str)]| {
        Settings::load(None, &Layer::default(), arguments, variables(environment), folder.path())
    };
    let named = load(&[], &[("PITON_CONFIG", "sub/a.toml")]).unwrap();
    assert_eq!((named.keep, named.dir), (4, folder.path().join("sub/store")));
    assert_eq!(load(&["--piton.config=sub/b.toml"], &[("PITON_CONFIG", "sub/a.toml")]).unwrap().keep, 5);
    assert_eq!(load(&[], &[]).unwrap().keep, 3);
    for missing in ["--piton.config=none.toml", "--piton.config=sub", "--piton.config="] {
        let error = load(&[missing], &[]).unwrap_err().to_string();
        assert!(error.contains("cannot be read") || error.contains("write --piton.config=PATH"), "{error}");
    }
}

#[test]
fn a_file_of_no_sane_size_is_refused() {
    let long = format!("#{}\n", "x".repeat(1 << 20));
    assert!(problem(&long, &[], &[], &[]).contains("longer than 1 MiB"));
}

#[test]
fn folders_are_taken_from_the_current_one() {
    let (folder, settings) = load("", &[], &[], &["--piton.dir=/absolute"]);
    assert_eq!(settings.unwrap().dir, Path::new("/absolute"));
    let settings = Settings::load(None, &Layer::default(), [""; 0], [], folder.path()).unwrap();
    assert_eq!(settings.dir, folder.path().join("piton"));
}

#[test]
fn settings_travel_between_ranks_unchanged() {
    let arguments = ["--resume=3/12", "--piton.compression=7", "--piton.every=90s", "--piton.staging_max=25%"];
    let settings = load("keep = 5", &[], &[("PITON_GROUP", "1")], &arguments).1.unwrap();
    let text = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
}

#[test]
fn the_sample_file_is_complete_and_changes_nothing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE_NAME);
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text, sample(), "write the output of `config::sample` to piton.toml");
    let settings = load(&text, &[], &[], &[]).1.unwrap();
    assert!(settings.table().iter().all(|row| row.origin == Origin::Default));
    let is_setting = |line: &&str| line.starts_with("# ") && line.contains(" = ");
    let uncommented: Vec<&str> = text.lines().filter(is_setting).map(|line| &line[2..]).collect();
    let (folder, settings) = load(&uncommented[..SETTINGS.len()].join("\n"), &[], &[], &[]);
    let settings = settings.unwrap();
    for (setting, row) in SETTINGS.iter().zip(settings.table()) {
        assert!(matches!(row.origin, Origin::File { .. }), "{} is missing in the sample", setting.key);
        let prefix = format!("{}/", folder.path().display());
        assert_eq!(row.value.replace(&prefix, ""), setting.default, "{}", setting.key);
    }
}

#[test]
fn the_readme_has_the_table_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let Ok(text) = fs::read_to_string(path) else { return };
    let Some((_, after)) = text.split_once("<!-- settings -->") else { return };
    let (table, _) = after.split_once("<!-- /settings -->").expect("the table's end is marked");
    assert_eq!(table.trim(), markdown().trim(), "write the output of `config::markdown` to README.md");
}

#[test]
#[ignore = "writes the generated text into the repository: run it by name after a change of the table"]
fn write_the_sample_file_and_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::write(root.join(FILE_NAME), sample()).unwrap();
    let path = root.join("README.md");
    let Ok(text) = fs::read_to_string(&path) else { return };
    let (Some((before, _)), Some((_, after))) =
        (text.split_once("<!-- settings -->"), text.split_once("<!-- /settings -->"))
    else {
        return;
    };
    let text = format!("{before}<!-- settings -->\n{}<!-- /settings -->{after}", markdown());
    fs::write(path, text).unwrap();
}

#[test]
fn bounds_that_exclude_each_other_are_refused() {
    let said = problem("max_interval = \"1min\"\n", &[], &[("PITON_MIN_INTERVAL", "1h")], &[]);
    assert!(
        said.contains("PITON_MIN_INTERVAL asks for no less than 1h") && said.contains("line 1 for no more than 1min"),
        "{said}"
    );
    assert!(load("", &[], &[("PITON_MIN_INTERVAL", "1h")], &[]).1.is_ok());
}

#[test]
fn a_site_file_is_where_the_configuration_says() {
    let (folder, settings) = load("site_failures = \"site.csv\"\n", &[], &[], &[]);
    assert_eq!(settings.unwrap().site_failures, folder.path().join("site.csv"));
    assert_eq!(load("", &[], &[], &[]).1.unwrap().site_failures, PathBuf::new());
}
