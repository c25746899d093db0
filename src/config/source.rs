//! Reading the layers: arguments, environment and file become assignments of text to keys, each with its origin.

use super::error::nearest;
use super::value::Form;
use super::{ConfigError, FILE_NAME, FILE_VARIABLE, Origin, RESERVED_VARIABLES, SETTINGS, Setting};
use crate::supervised::RESUME_VARIABLE;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A configuration file that is longer is not one.
const FILE_LIMIT: u64 = 1 << 20;

const PREFIX: &str = "--piton.";

/// One setting as a layer gives it.
#[derive(Debug)]
pub(super) struct Assignment {
    pub key: String,
    pub text: String,
    pub origin: Origin,
}

impl Assignment {
    pub fn new(key: impl Into<String>, text: impl Into<String>, origin: Origin) -> Self {
        Self { key: key.into(), text: text.into(), origin }
    }
}

/// What a layer gives, and the configuration file that it names.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub assignments: Vec<Assignment>,
    pub file: Option<(PathBuf, Origin)>,
    /// What the supervisor has decided, whatever was said otherwise.
    pub supervisor: Option<Assignment>,
}

/// The configuration file that was found, and what it gives.
#[derive(Debug)]
pub(super) struct FromFile {
    pub path: PathBuf,
    pub assignments: Vec<Assignment>,
}

/// Whether the library reads this argument of the application's command line, so that the application's own parser can
/// leave it out.
///
/// ```
/// let own = ["heat", "--size", "64x64", "--resume=12", "--piton.keep=3"]
///     .into_iter()
///     .filter(|argument| !piton::config::reads_argument(argument));
/// assert!(own.eq(["heat", "--size", "64x64"]));
/// ```
#[must_use]
pub fn reads_argument(argument: &str) -> bool {
    let name = argument.split_once('=').map_or(argument, |(name, _)| name);
    name.starts_with(PREFIX) || matches!(name, "--resume" | "--fresh" | "--take-over")
}

pub(super) fn from_arguments(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Given, ConfigError> {
    let mut given = Given::default();
    for argument in arguments {
        let argument = argument.into();
        let text = argument.to_string_lossy();
        if text == "--" {
            break;
        }
        if !reads_argument(&text) {
            continue;
        }
        let origin = Origin::CommandLine { argument: text.to_string() };
        let Some(text) = argument.to_str() else { return Err(not_text(origin)) };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let key = match name {
            "--resume" => "resume",
            "--fresh" => "fresh",
            "--take-over" => "take_over",
            _ => &name[PREFIX.len()..],
        };
        let value = match (key, value) {
            (_, Some(value)) => value,
            ("resume", None) => "latest",
            _ if Setting::find(key).is_some_and(|setting| setting.form == Form::Switch) => "true",
            _ if key != "config" && Setting::find(key).is_none() => {
                return Err(ConfigError::unknown_key(key.to_owned(), origin));
            }
            _ => return Err(ConfigError::Malformed { origin, expected: format!("write --piton.{key}=VALUE") }),
        };
        if key == "config" {
            if value.is_empty() {
                return Err(ConfigError::Malformed { origin, expected: "write --piton.config=PATH".to_owned() });
            }
            given.file = Some((PathBuf::from(value), origin));
        } else {
            given.assignments.push(Assignment::new(key, value, origin));
        }
    }
    Ok(given)
}

pub(super) fn from_environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Given, ConfigError> {
    let mut given = Given::default();
    for (variable, value) in variables {
        let Some(variable) = variable.to_str().filter(|name| name.starts_with("PITON_")) else { continue };
        if variable == RESUME_VARIABLE && value == "latest" {
            given.supervisor = Some(Assignment::new("resume", "latest", Origin::Supervisor));
        }
        if RESERVED_VARIABLES.iter().any(|reserved| variable.starts_with(reserved)) || value.is_empty() {
            continue;
        }
        let origin = Origin::Environment { variable: variable.to_owned() };
        if variable == FILE_VARIABLE {
            given.file = Some((PathBuf::from(value), origin));
            continue;
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.environment == variable) else {
            let known = SETTINGS.iter().map(|setting| setting.environment).chain([FILE_VARIABLE]);
            let suggestion = nearest(variable, known).map(str::to_owned);
            return Err(ConfigError::Unknown { key: variable.to_owned(), origin, suggestion });
        };
        let Some(value) = value.to_str() else { return Err(not_text(origin)) };
        given.assignments.push(Assignment::new(setting.key, value, origin));
    }
    Ok(given)
}

fn not_text(origin: Origin) -> ConfigError {
    ConfigError::Malformed { origin, expected: "the value is not text in UTF-8".to_owned() }
}

/// What the file gives for `job`. Without a name, a file that does not exist gives nothing; what a user names must be
/// there.
pub(super) fn from_file(
    job: Option<&str>,
    named: Option<(PathBuf, Origin)>,
    folder: &Path,
) -> Result<Option<FromFile>, ConfigError> {
    let must_exist = named.is_some();
    let path = folder.join(named.map_or_else(|| PathBuf::from(FILE_NAME), |(path, _)| path));
    let text = match read_text(&path, FILE_LIMIT, "configuration file") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => return Ok(None),
        Err(source) => return Err(ConfigError::File { path, source: source.into() }),
    };
    let assignments = parse(&path, &text, job)?;
    Ok(Some(FromFile { path, assignments }))
}

/// The text of a file that a user has written: `kind` says of what kind, should it be too long for that.
pub(crate) fn read_text(path: &Path, limit: u64, kind: &str) -> io::Result<String> {
    // Before it is opened: opening a pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = String::new();
    let read = File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if read as u64 > limit {
        let message = format!("longer than {} MiB, which no {kind} is", limit >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(text)
}

/// The line of `text`, counted from 1, in which the byte at `offset` stands.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn parse(path: &Path, text: &str, job: Option<&str>) -> Result<Vec<Assignment>, ConfigError> {
    let place = |offset: usize| Origin::File { path: path.to_path_buf(), line: line_at(text, offset) };
    let document = DeTable::parse(text).map_err(|error| {
        let Origin::File { path, line } = place(error.span().map_or(0, |span| span.start)) else {
            return ConfigError::File { path: path.to_path_buf(), source: io::Error::other(error).into() };
        };
        ConfigError::Syntax { path, line, message: error.message().to_owned() }
    })?;
    let (mut everywhere, mut of_job) = (Vec::new(), Vec::new());
    for (key, value) in document.get_ref() {
        if key.get_ref() != "job" {
            everywhere.push(assignment(key, value, &place)?);
            continue;
        }
        let shape = || ConfigError::Malformed {
            origin: place(key.span().start),
            expected: "settings of one job stand in a table `[job.NAME]`".to_owned(),
        };
        for (name, settings) in value.get_ref().as_table().ok_or_else(shape)? {
            for (key, value) in settings.get_ref().as_table().ok_or_else(shape)? {
                let assignment = assignment(key, value, &place)?;
                if job == Some(name.get_ref().as_ref()) {
                    of_job.push(assignment);
                }
            }
        }
    }
    everywhere.extend(of_job);
    Ok(everywhere)
}

/// The assignment that one line of the file makes. Its value is checked here already, since a file is wrong as a whole:
/// also where another job, or a later layer, would hide the mistake.
fn assignment(
    key: &Spanned<toml::de::DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
    place: &dyn Fn(usize) -> Origin,
) -> Result<Assignment, ConfigError> {
    let origin = place(key.span().start);
    let Some(setting) = Setting::find(key.get_ref()) else {
        return Err(ConfigError::unknown_key(key.get_ref().to_string(), origin));
    };
    let invalid = |value: String, expected: String, origin: &Origin| ConfigError::Invalid {
        key: setting.key,
        value,
        origin: origin.clone(),
        expected,
    };
    // What is written without quotes can still be the text of a number; a folder's name has them.
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => number.to_string(),
        },
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(switch) => switch.to_string(),
        other => return Err(invalid(other.type_str().to_owned(), format!("it takes {}", setting.form), &origin)),
    };
    if setting.form == Form::Folder && !matches!(value.get_ref(), DeValue::String(_)) {
        return Err(invalid(text, format!("it takes {}", setting.form), &origin));
    }
    (setting.assign)(&mut super::Settings::default(), &text)
        .map_err(|expected| invalid(text.clone(), expected, &origin))?;
    Ok(Assignment { key: setting.key.to_owned(), text, origin })
}
