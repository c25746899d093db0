//! Which control groups, of version 1 and 2, a process is in.
//!
//! Comes in: what `/proc/PID/cgroup` and `/proc/self/mountinfo` say. Goes out: the folder of the process's group and those of the groups that
//! it lies in, as far as they can be seen. What must hold: a group's limit counts with those of all groups above it; a group
//! that can't be found is not known, never an error.

use super::Roots;
use std::path::{Component, Path, PathBuf};

/// Most groups that are looked at: more than anybody nests.
const MOST_GROUPS: usize = 64;
/// Longest name of a group in a text of ours, in characters.
const LONGEST_NAME: usize = 200;

/// Which of the two ways the kernel has to account for groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// A control group with the controller that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub version: Version,
    pub folder: PathBuf,
    /// As a person would look for it.
    pub name: String,
}

/// The groups of a process with that controller, its own first and those above it after it.
pub(crate) fn groups(roots: &Roots, controller: &str, cgroup: &str, mountinfo: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    // ID:CONTROLLERS:PATH; version 2 has no controllers, and the ID 0.
    for line in cgroup.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let version = match controllers {
            "" if id == "0" => Version::Two,
            _ if has(controllers, controller) => Version::One,
            _ => continue,
        };
        for mount in mountinfo.lines().filter_map(|line| mount(line, version, controller)) {
            for group in up(roots, version, &mount, path) {
                if groups.len() < MOST_GROUPS && !groups.contains(&group) {
                    groups.push(group);
                }
            }
        }
    }
    groups
}

/// Whether `name` is in a list with commas between.
fn has(list: &str, name: &str) -> bool {
    list.split(',').any(|item| item == name)
}

/// Where a hierarchy of groups can be seen.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The group that is at the mount point.
    group: String,
    point: String,
}

/// What a line of mountinfo says, where it is a mount of groups of that version with that controller.
fn mount(line: &str, version: Version, controller: &str) -> Option<Mount> {
    // ID PARENT DEVICE ROOT POINT OPTIONS [TAG…] - TYPE SOURCE SUPER_OPTIONS; see proc_pid_mountinfo(5).
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (group, point) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let (kind, options) = (after.next()?, after.nth(1)?);
    let fits = match version {
        Version::One => kind == "cgroup" && has(options, controller),
        Version::Two => kind == "cgroup2",
    };
    fits.then(|| Mount { group: unescape(group), point: unescape(point) })
}

/// Spaces and such are written in octal: `\040`.
pub(super) fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// The folders of the group `path` and of those above it, as far as they can be seen under `mount`.
fn up(roots: &Roots, version: Version, mount: &Mount, path: &str) -> Vec<Group> {
    let inside = |path: &str| {
        let parts = Path::new(path).components().filter(|part| *part != Component::RootDir);
        let plain = parts.map(|part| match part {
            Component::Normal(name) => Some(PathBuf::from(name)),
            _ => None,
        });
        plain.collect::<Option<PathBuf>>()
    };
    let Some(point) = roots.at(Path::new(&mount.point)) else { return Vec::new() };
    // A container may see its own group at the mount point and know itself by another name: then that is all there is.
    let below = inside(path)
        .zip(inside(&mount.group))
        .and_then(|(path, group)| Some(path.strip_prefix(group).ok()?.to_owned()));
    let below = below.unwrap_or_default();
    let above = below.ancestors().take(MOST_GROUPS);
    let group = |below: &Path| {
        // Without the slash that an empty path would leave at the end.
        let plain = |folder: PathBuf| folder.components().collect::<PathBuf>();
        let name = plain(Path::new("/").join(&mount.point).join(below)).display().to_string();
        Group { version, folder: plain(point.join(below)), name: name.chars().take(LONGEST_NAME).collect() }
    };
    above.map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_mountinfo_escapes_is_read() {
        assert_eq!(unescape("a\\040b\\134\\x\\7\\999\\"), "a b\\\\x\\7\\999\\");
    }

    #[test]
    fn each_controller_of_version_1_has_its_own_group() {
        let mountinfo = "35 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                         36 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let cgroup = "4:memory:/slurm/job_7\n2:cpu,cpuacct:/\n";
        let names = |controller: &str| {
            let groups = groups(&Roots::default(), controller, cgroup, mountinfo);
            groups.into_iter().map(|group| group.name).collect::<Vec<_>>()
        };
        let memory = ["/sys/fs/cgroup/memory/slurm/job_7", "/sys/fs/cgroup/memory/slurm", "/sys/fs/cgroup/memory"];
        assert_eq!(names("memory"), memory);
        assert_eq!(names("cpu"), ["/sys/fs/cgroup/cpu,cpuacct"]);
        assert!(names("pids").is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_left(cgroup: String, mountinfo: String, path in "[/.a]{0,12}", group in "[/.a]{0,12}") {
            let roots = Roots::below("/nowhere");
            let _ = groups(&roots, "memory", &cgroup, &mountinfo);
            let line = format!("1 2 3 {group} {path} rw - cgroup2 x rw");
            for group in groups(&roots, "memory", &format!("0::{path}"), &line) {
                prop_assert!(group.folder.starts_with("/nowhere"));
                prop_assert!(group.folder.components().all(|part| part != Component::ParentDir));
            }
        }
    }
}
