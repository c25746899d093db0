//! The file systems that a job needs: the tiers, `/` and `/tmp`. Their space, inodes, whether they can be written to, and whether they hang.
//!
//! Comes in: paths. Goes out: `node_filesystem_*` and `piton_node_filesystem_hung`, each with the label `path`. What must hold: a file system
//! that hangs hangs nobody here: it is asked on a thread of its own, one a path, which is left alone until it comes back. It is one a
//! path, not one a mount, since projects with a quota have their own space on the same mount.

use super::Roots;
use super::files::text;
use super::groups::unescape;
use super::patient::{Answer, Patient};
use super::sink::Sink;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// What a file system says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// How large it is, in bytes.
    pub size: u64,
    /// Not in use, in bytes.
    pub free: u64,
    /// What an unprivileged process may still use of it, in bytes.
    pub available: u64,
    /// Inodes.
    pub files: u64,
    /// Inodes that are not in use.
    pub files_free: u64,
    /// Nothing can be written to it.
    pub read_only: bool,
}

/// How a file system is asked: `statvfs`, or what takes its place in tests.
#[derive(Clone)]
pub struct Probe(Arc<Ask>);

type Ask = dyn Fn(&Path) -> io::Result<Space> + Send + Sync;

impl Probe {
    /// Asks by this function, which may block.
    pub fn new(ask: impl Fn(&Path) -> io::Result<Space> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self::new(statvfs)
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

// `fsblkcnt_t` and the like are narrower on macOS.
#[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
fn statvfs(path: &Path) -> io::Result<Space> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    let block = stat.fragment_size() as u64;
    Ok(Space {
        size: (stat.blocks() as u64).saturating_mul(block),
        free: (stat.blocks_free() as u64).saturating_mul(block),
        available: (stat.blocks_available() as u64).saturating_mul(block),
        files: stat.files() as u64,
        files_free: stat.files_free() as u64,
        read_only: stat.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY),
    })
}

/// A file system that is watched.
#[derive(Debug)]
struct Watched {
    /// As it is called.
    path: String,
    /// It is asked for by name: where it is missing, something is wrong.
    wanted: bool,
    patient: Patient<io::Result<Space>>,
}

/// All that are watched.
#[derive(Debug)]
pub(super) struct Filesystems {
    watched: Vec<Watched>,
}

impl Filesystems {
    /// The tiers, and `/` and `/tmp`.
    pub(super) fn new(roots: &Roots, tiers: &[PathBuf], probe: &Probe) -> Self {
        let mut paths: Vec<(&Path, bool)> = Vec::new();
        let tiers = tiers.iter().map(|tier| (tier.as_path(), true));
        for (path, wanted) in tiers.chain([(Path::new("/"), false), (Path::new("/tmp"), false)]) {
            if !paths.iter().any(|(known, _)| *known == path) {
                paths.push((path, wanted));
            }
        }
        let watched = paths.into_iter().map(|(path, wanted)| {
            let probe = probe.clone();
            // A relative path is one of this process, as is one that leads upwards.
            let at = if path.is_absolute() { roots.at(path) } else { None }.unwrap_or_else(|| path.to_owned());
            let patient = Patient::new("piton-statvfs", move || Some((probe.0)(&at)));
            Watched { path: path.display().to_string(), wanted, patient }
        });
        Self { watched: watched.collect() }
    }

    /// Asks all of them at once, so that they are waited for together.
    pub(super) fn ask(&mut self) {
        self.watched.iter_mut().for_each(|watched| watched.patient.ask());
    }

    /// What they have answered by `deadline`.
    pub(super) fn sample(&mut self, roots: &Roots, deadline: Instant, sink: &mut Sink) {
        let mounts = text(&roots.proc("self/mountinfo")).unwrap_or_default();
        let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::parse).collect();
        for watched in &mut self.watched {
            let labels = &[("path", watched.path.as_str())];
            let hung = |sink: &mut Sink, hung: f64| sink.gauge("piton_node_filesystem_hung", labels, hung);
            match watched.patient.answer(deadline) {
                Answer::Given(Ok(space), took) => {
                    hung(sink, 0.0);
                    sink.gauge("piton_node_filesystem_probe_seconds", labels, took.as_secs_f64());
                    sink.gauge("node_filesystem_device_error", labels, 0.0);
                    sink.gauge("node_filesystem_size_bytes", labels, space.size as f64);
                    sink.gauge("node_filesystem_free_bytes", labels, space.free as f64);
                    sink.gauge("node_filesystem_avail_bytes", labels, space.available as f64);
                    sink.gauge("node_filesystem_files", labels, space.files as f64);
                    sink.gauge("node_filesystem_files_free", labels, space.files_free as f64);
                    sink.gauge("node_filesystem_readonly", labels, f64::from(u8::from(space.read_only)));
                }
                Answer::Given(Err(error), _) => {
                    if !watched.wanted && error.kind() == io::ErrorKind::NotFound {
                        continue;
                    }
                    hung(sink, 0.0);
                    sink.gauge("node_filesystem_device_error", labels, 1.0);
                }
                Answer::Hanging(since) => {
                    hung(sink, 1.0);
                    sink.gauge("piton_node_filesystem_probe_seconds", labels, since.as_secs_f64());
                }
                Answer::Nobody => continue,
            }
            let under = |mount: &&Mount<'_>| Path::new(&watched.path).starts_with(&mount.point);
            // Of several at the same point, the last one covers the others.
            if let Some(mount) = mounts.iter().filter(under).max_by_key(|mount| mount.point.len()) {
                let labels = [
                    ("path", watched.path.as_str()),
                    ("mountpoint", &mount.point),
                    ("fstype", mount.kind),
                    ("device", mount.source),
                ];
                sink.gauge("piton_node_filesystem_info", &labels, 1.0);
            }
        }
    }
}

/// A line of mountinfo.
#[derive(Debug)]
struct Mount<'a> {
    point: String,
    kind: &'a str,
    source: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        // ID PARENT DEVICE ROOT POINT OPTIONS [TAG…] - TYPE SOURCE SUPER_OPTIONS; see proc_pid_mountinfo(5).
        let (before, after) = line.split_once(" - ")?;
        let point = unescape(before.split(' ').nth(4)?);
        let mut after = after.split(' ');
        Some(Self { point, kind: after.next()?, source: after.next()? })
    }
}
