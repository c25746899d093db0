//! How much memory this process may use, and how much of it is free.
//!
//! Comes in: what the system says in `/proc` and in the control groups, of version 1 and 2, that this process is in. Goes
//! out: a [`Bound`] on all memory of the node that counts for us ([`Memory::total`]), one on what is free of it now
//! ([`Memory::room`]), and how much of the state was never touched, so that it will still take memory ([`untouched`]).
//! What must hold: a group's limit counts with those of all groups that it lies in; no more of a file is read than it can
//! sensibly hold, and what can't be read or isn't a number is not known, never an error; of a state whatever can't be
//! seen to be touched counts as untouched.
//!
//! ```text
//! /proc/self/cgroup ─ group ─┐
//! /proc/self/mountinfo ──────┴─► folder of the group, and of those above it up to the mount
//!                                  version 2: memory.max, .high, .current, .stat
//!                                  version 1: memory.limit_in_bytes, .usage_in_bytes, .stat
//! /proc/meminfo ───────────────► the node
//! ```

use crate::watch::node::Roots;
use crate::watch::node::groups::{Group, Version, groups};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Most that is read of a file, in bytes. Nodes that run many containers have thousands of mounts.
const LONGEST: u64 = 4 << 20;
/// A limit above it is none: version 1 says "unlimited" with the largest number that it can count.
const NO_LIMIT: u64 = 1 << 60;

/// A bound on memory, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    pub bytes: u64,
    /// `the node`, or the control group by name.
    pub of: String,
}

/// Where the memory of this process is accounted for.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    meminfo: PathBuf,
    groups: Vec<Group>,
}

impl Memory {
    /// That of this process. Groups are looked up once: batch systems put processes into theirs before they start.
    pub(crate) fn of_this_process() -> Self {
        Self::below(Path::new("/"))
    }

    /// As if `root` were the root of the file system.
    pub(super) fn below(root: &Path) -> Self {
        let text = |path: &str| read(&root.join(path)).unwrap_or_default();
        let groups = groups(&Roots::below(root), "memory", &text("proc/self/cgroup"), &text("proc/self/mountinfo"));
        Self { meminfo: root.join("proc/meminfo"), groups }
    }

    /// The memory of the node that this process may use: what is installed, or the least limit.
    pub(crate) fn total(&self) -> Option<Bound> {
        let node = self.meminfo(["MemTotal"]);
        let limits = self.groups.iter().filter_map(|group| Some(group.bound(group.limit()?)));
        limits.chain(node).min_by_key(|bound| bound.bytes)
    }

    /// What is free of it now. Where `enough` is, no more is asked: to have a group counted costs the kernel something.
    pub(crate) fn room(&self, enough: u64) -> Option<Bound> {
        // Kernels before 3.14 don't estimate what is available, which is never less than what is not used at all.
        let node = self.meminfo(["MemAvailable", "MemFree"]);
        let rooms = self.groups.iter().filter_map(|group| Some(group.bound(group.room(enough)?)));
        rooms.chain(node).min_by_key(|bound| bound.bytes)
    }

    /// The first of `keys` that the node tells.
    fn meminfo<const N: usize>(&self, keys: [&str; N]) -> Option<Bound> {
        let text = read(&self.meminfo)?;
        let bytes = keys.into_iter().find_map(|key| meminfo(&text, key))?;
        Some(Bound { bytes, of: "the node".into() })
    }
}

impl Group {
    fn bound(&self, bytes: u64) -> Bound {
        Bound { bytes, of: format!("control group {}", self.name) }
    }

    fn number(&self, file: &str) -> Option<u64> {
        number(&read(&self.folder.join(file))?)
    }

    fn limit(&self) -> Option<u64> {
        match self.version {
            Version::One => self.number("memory.limit_in_bytes"),
            // Above `high` a process is not killed, but hardly runs any more.
            Version::Two => [self.number("memory.max"), self.number("memory.high")].into_iter().flatten().min(),
        }
    }

    fn room(&self, enough: u64) -> Option<u64> {
        let limit = self.limit()?;
        let (usage, inactive) = match self.version {
            Version::One => ("memory.usage_in_bytes", "total_inactive_file"),
            Version::Two => ("memory.current", "inactive_file"),
        };
        let room = limit.saturating_sub(self.number(usage)?);
        if room >= enough {
            return Some(room);
        }
        // Files that nobody reads any more go as soon as the memory is needed.
        let stat = read(&self.folder.join("memory.stat"));
        let idle = stat.and_then(|stat| field(&stat, inactive)).unwrap_or(0);
        Some(room.saturating_add(idle).min(limit))
    }
}

/// How much of `fields` was never touched, as far as their pages tell in the file `pagemap`, [`PAGES`] for this process.
///
/// A fresh array of zeros takes no memory before it is written to: it is not in use, and yet spoken for.
pub(crate) fn untouched(fields: &[&[u8]], pagemap: &Path) -> u64 {
    let total: u64 = fields.iter().map(|field| field.len() as u64).sum();
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|page| usize::try_from(page).ok()).filter(|page| page.is_power_of_two());
    let (Some(page), Ok(file)) = (page, File::open(pagemap)) else { return total };
    // Arrays are touched in long runs, and nobody waits for a look at each page.
    let step = usize::try_from(total / MOST_LOOKS).unwrap_or(usize::MAX).max(LOOK).next_multiple_of(page);
    let mut untouched = 0;
    for pieces in fields.iter().map(|field| field.chunks(step)) {
        for piece in pieces {
            // The middle: the ends of an array share their pages with others.
            let address = piece.as_ptr().addr() + piece.len() / 2;
            let mut entry = [0; 8];
            let place = address / page * size_of_val(&entry);
            let known = file.read_exact_at(&mut entry, place as u64).is_ok();
            // Bit 63: in memory; bit 62: in swap. See proc_pid_pagemap(5).
            if !known || u64::from_ne_bytes(entry) >> 62 == 0 {
                untouched += piece.len() as u64;
            }
        }
    }
    untouched
}

/// What tells of each page of this process whether it is there.
pub(crate) const PAGES: &str = "/proc/self/pagemap";
/// One page is looked at in so many bytes.
const LOOK: usize = 1 << 20;
/// Most pages that are looked at.
const MOST_LOOKS: u64 = 16 << 10;

/// The text of a file, up to [`LONGEST`].
fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    // A group whose name is not text is not found, and thereby not known.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A limit or a count; `None` for `max`, and for what is no number.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|number| *number < NO_LIMIT)
}

/// A line `key: 123 kB`, in bytes.
fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    number(line.trim().strip_suffix("kB")?)?.checked_mul(1 << 10)
}

/// A line `key 123`.
fn field(text: &str, key: &str) -> Option<u64> {
    number(text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    /// A root with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn bound(bytes: u64, of: &str) -> Option<Bound> {
        Some(Bound { bytes, of: of.into() })
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       24683520 kB\nMemFree:        10000000 kB\nMemAvailable:   20971520 kB\nSwapTotal: 0 kB\n",
    );
    const MOUNT_TWO: &str = "23 1 8:1 / / rw - ext4 /dev/sda rw\n\
                             35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn without_groups_the_node_counts() {
        let folder = root(&[MEMINFO]);
        let memory = Memory::below(folder.path());
        assert_eq!(memory.total(), bound(24_683_520 << 10, "the node"));
        assert_eq!(memory.room(u64::MAX), bound(20 * GIB, "the node"));
        let nothing = Memory::below(&folder.path().join("nowhere"));
        assert_eq!((nothing.total(), nothing.room(0)), (None, None));
        let old = root(&[("proc/meminfo", "MemTotal: 4096 kB\nMemFree: 1024 kB\n")]);
        assert_eq!(Memory::below(old.path()).room(0).unwrap().bytes, MIB);
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let job = "sys/fs/cgroup/slurm/job 7";
        let folder = root(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/slurm/job 7/step/task\n"),
            ("proc/self/mountinfo", MOUNT_TWO),
            (&format!("{job}/step/task/memory.max"), "max\n"),
            (&format!("{job}/step/task/memory.current"), "1048576\n"),
            (&format!("{job}/step/memory.max"), "8589934592\n"),
            (&format!("{job}/step/memory.current"), "7516192768\n"),
            (&format!("{job}/step/memory.stat"), "anon 5\ninactive_anon 7\ninactive_file 1073741824\nactive_file 3\n"),
            (&format!("{job}/memory.max"), "4294967296\n"),
            (&format!("{job}/memory.high"), "max\n"),
            (&format!("{job}/memory.current"), "1073741824\n"),
            ("sys/fs/cgroup/slurm/memory.max", "garbage\n"),
        ]);
        let memory = Memory::below(folder.path());
        assert_eq!(memory.total(), bound(4 * GIB, "control group /sys/fs/cgroup/slurm/job 7"));
        // 8 − 7 and the file of 1 in the step, 4 − 1 in the job.
        assert_eq!(memory.room(u64::MAX), bound(2 * GIB, "control group /sys/fs/cgroup/slurm/job 7/step"));
        assert_eq!(memory.room(GIB).unwrap().bytes, GIB, "enough without what files take");
        fs::write(folder.path().join(job).join("memory.high"), "2147483648").unwrap();
        assert_eq!(memory.total().unwrap().bytes, 2 * GIB);
        assert_eq!(memory.room(u64::MAX).unwrap().bytes, GIB);
    }

    #[test]
    fn groups_of_version_1_are_known() {
        let folder = root(&[
            MEMINFO,
            ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/abc/inner\n3:cpuset:/\n0::/\n"),
            (
                "proc/self/mountinfo",
                "35 31 0:32 /docker/abc /sys/fs/cgroup/my\\040memory rw - cgroup cgroup rw,cpu,memory\n\
                 36 31 0:33 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                 41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            ),
            ("sys/fs/cgroup/my memory/memory.limit_in_bytes", "1073741824\n"),
            ("sys/fs/cgroup/my memory/memory.usage_in_bytes", "943718400\n"),
            ("sys/fs/cgroup/my memory/memory.stat", "inactive_file 1\ntotal_inactive_file 10485760\n"),
            ("sys/fs/cgroup/my memory/inner/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/my memory/inner/memory.usage_in_bytes", "943718400\n"),
        ]);
        let memory = Memory::below(folder.path());
        assert_eq!(memory.total(), bound(GIB, "control group /sys/fs/cgroup/my memory"));
        assert_eq!(memory.room(u64::MAX).unwrap().bytes, (1024 - 900 + 10) * MIB);
    }

    #[test]
    fn a_container_that_knows_itself_by_another_name_has_the_limit_of_the_mount_point() {
        for path in ["/", "/elsewhere", "/../../docker/abc", "/docker/abcd"] {
            let folder = root(&[
                ("proc/self/cgroup", &format!("0::{path}\n")),
                ("proc/self/mountinfo", "35 24 0:30 /docker/abc /groups rw - cgroup2 cgroup2 rw\n"),
                ("groups/memory.max", "4096"),
                ("groups/memory.current", "8192"),
            ]);
            let memory = Memory::below(folder.path());
            assert_eq!(memory.total(), bound(4096, "control group /groups"), "{path}");
            assert_eq!(memory.room(u64::MAX).unwrap().bytes, 0, "{path}: more in use than allowed");
        }
    }

    #[test]
    fn what_is_no_number_is_not_known() {
        for text in ["", "max", "-1", "1 GiB", "99999999999999999999", "9223372036854771712", "\u{fffd}", "0x10"] {
            assert_eq!(number(text), None, "{text:?}");
        }
        assert_eq!((number("0\n"), number(" 4096\n")), (Some(0), Some(4096)));
        for text in ["", "MemTotal", "MemTotal:", "MemTotal: many kB", "MemTotal: 5 pages", "XMemTotal: 5 kB"] {
            assert_eq!(meminfo(text, "MemTotal"), None, "{text:?}");
        }
        assert_eq!(meminfo(&format!("MemTotal: {} kB", NO_LIMIT - 1), "MemTotal"), None);
        assert_eq!(field("inactive_file_x 3\ninactive_file 4\n", "inactive_file"), Some(4));
    }

    #[test]
    fn a_file_without_end_costs_no_more_memory_than_is_allowed() {
        assert_eq!(read(Path::new("/dev/zero")).unwrap().len() as u64, LONGEST);
    }

    #[test]
    fn memory_that_was_never_written_is_still_to_come() {
        let mut fresh = memmap2::MmapMut::map_anon(8 << 20).unwrap();
        // A huge page may begin before the byte that is written.
        #[cfg(target_os = "linux")]
        let _ = fresh.advise(memmap2::Advice::NoHugePage);
        let touched = vec![1_u8; 3 << 20];
        let pagemap = Path::new(PAGES);
        if !pagemap.exists() {
            return;
        }
        assert_eq!(untouched(&[&fresh, &touched, &[]], pagemap), 8 << 20);
        fresh[4 << 20..].fill(1);
        assert_eq!(untouched(&[&fresh, &touched], pagemap), 4 << 20);
        assert_eq!(untouched(&[&touched], Path::new("/nowhere")), 3 << 20);
        assert_eq!(untouched(&[], pagemap), 0);
    }
}
