//! Which devices could write into the application's memory behind the kernel's back.
//!
//! A page that a device, or another process through a mapping of its own, writes to does not count as written: the kernel
//! sees writes through this process's page tables only. Where such a thing is open, tracking is not sound.

use std::path::Path;

/// The folder of this process's open files.
pub(crate) const OPEN_FILES: &str = "/proc/self/fd";

/// What the links of open files start with: network adapters that write to registered memory (InfiniBand and RoCE, Omni-Path,
/// Slingshot, Aries, BXI), graphics and other accelerators, devices driven from user space, and mappings that another
/// process has of our memory (XPMEM, KNEM).
const TRANSPORTS: &[&str] = &[
    "/dev/infiniband/",
    "/dev/hfi1",
    "/dev/cxi",
    "/dev/kgni",
    "/dev/bxi",
    "/dev/nvidia",
    "/dev/gdrdrv",
    "/dev/kfd",
    "/dev/dri/render",
    "/dev/accel/",
    "/dev/vfio/",
    "/dev/uio",
    "/dev/xpmem",
    "/dev/knem",
    "anon_inode:[io_uring]",
];

/// What is open of them, by `folder`, each once and in order; [`OPEN_FILES`] is that of this process.
///
/// A folder that can't be read gives one text that says so: what is not known to be absent counts as open.
pub(crate) fn open_transports(folder: &Path) -> Vec<String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return vec![format!("something unknown, since {} can't be read ({error})", folder.display())],
    };
    // A file that was closed meanwhile has no link any more.
    let links = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let mut open: Vec<String> = links
        .filter_map(|link| link.to_str().map(str::to_owned))
        .filter(|link| TRANSPORTS.iter().any(|start| link.starts_with(start)))
        .collect();
    open.sort_unstable();
    open.dedup();
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn devices_are_found_among_open_files() {
        let folder = tempfile::tempdir().unwrap();
        let open = |number: &str, what: &str| std::os::unix::fs::symlink(what, folder.path().join(number)).unwrap();
        open("0", "/dev/pts/0");
        open("1", "socket:[1234]");
        open("2", "/home/me/dev/infiniband/notes");
        assert!(open_transports(folder.path()).is_empty());
        open("3", "/dev/infiniband/uverbs0");
        open("4", "/dev/infiniband/uverbs0");
        open("5", "/dev/dri/card0");
        open("6", "/dev/dri/renderD128");
        open("7", "anon_inode:[io_uring]");
        open("8", "anon_inode:[eventpoll]");
        open("9", "/dev/nvidiactl");
        let expected = ["/dev/dri/renderD128", "/dev/infiniband/uverbs0", "/dev/nvidiactl", "anon_inode:[io_uring]"];
        assert_eq!(open_transports(folder.path()), expected);
    }

    #[test]
    fn what_cannot_be_seen_counts_as_open() {
        let folder = tempfile::tempdir().unwrap();
        let open = open_transports(&folder.path().join("missing"));
        assert!(open.len() == 1 && open[0].contains("can't be read"), "{open:?}");
    }
}
