//! The kernel's knowledge of which pages were written.
//!
//! Memory is registered with a userfaultfd in asynchronous write-protect mode: the first write to a protected page costs a
//! short fault in the kernel and nothing else, and the `PAGEMAP_SCAN` request tells which pages were written and
//! protects them again in one step, so that no write falls between the two.
//!
//! Comes in: a [`Mark`], which belongs to one memory map. Goes out: the [`Written`] pages since the last look.
//! What must hold: looks at one map form a chain in which each has a number that is never used again, so that whoever
//! remembers the number of the last one knows whether pages are missing in between. It breaks with the map, with an error,
//! and where another session looks.
//!
//! Constants are those of Linux's `include/uapi/linux/userfaultfd.h` and `include/uapi/linux/fs.h` (6.7 and later);
//! neither `nix` nor `libc` has them.

use super::pages::PageMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

#[cfg(target_os = "linux")]
pub(crate) use linux::Tracker;
#[cfg(not(target_os = "linux"))]
pub(crate) use stub::Tracker;

/// Why this machine cannot tell which pages were written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrackingUnavailable {
    /// The system is not Linux.
    #[error("only Linux tells which pages were written")]
    System,
    /// There is no userfaultfd for this process.
    #[error("the kernel gives this process no userfaultfd ({reason}); a container's seccomp profile may forbid it")]
    Forbidden {
        /// What the system says.
        reason: String,
    },
    /// The kernel is too old, or was built without it.
    #[error("the kernel does not write-protect asynchronously ({reason}); Linux 6.7 and later do")]
    Features {
        /// What the system says.
        reason: String,
    },
    /// A trial failed.
    #[error("the kernel cannot track a page of ordinary memory ({reason})")]
    Trial {
        /// What the system says.
        reason: String,
    },
    /// A trial gave a wrong answer.
    #[error("the kernel did not report exactly the page that was written")]
    Untrue,
}

/// Whether this machine's kernel can tell which pages of a [`PagedVec`](crate::PagedVec) were written: tries it with a few
/// pages.
///
/// ```
/// match piton::tracking_available() {
///     Ok(()) => println!("a freeze copies what changed"),
///     Err(reason) => println!("a freeze copies everything: {reason}"),
/// }
/// ```
///
/// # Errors
/// Why not.
pub fn tracking_available() -> Result<(), TrackingUnavailable> {
    Tracker::probe().map(drop)
}

/// What is known of one memory map. It lives and dies with the map.
#[derive(Debug)]
pub(crate) struct Mark {
    start: usize,
    bytes: usize,
    registration: Mutex<Option<Registration>>,
}

/// Who looks at the map, and the number of the last look.
#[derive(Debug)]
struct Registration {
    tracker: Weak<Tracker>,
    look: u64,
}

/// The pages that were written between two looks.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// The number of the look before; none where this is the first, and any page may have been written.
    pub(super) since: Option<u64>,
    /// The number of this one. No other look, at whatever map, has it.
    pub(super) look: u64,
    pub(super) pages: PageMap,
}

fn next_look() -> u64 {
    static LOOKS: AtomicU64 = AtomicU64::new(1);
    LOOKS.fetch_add(1, Ordering::Relaxed)
}

impl Mark {
    /// For the map of whole pages of the system at `start`.
    pub(super) fn new(start: *const u8, bytes: usize) -> Self {
        Self { start: start.addr(), bytes, registration: Mutex::new(None) }
    }

    /// Which pages among the first `bytes` were written since the last look of `tracker`; from now on they count as not
    /// written. The caller sees to it that nobody writes meanwhile, or takes the write for one that comes later.
    ///
    /// # Errors
    /// Another session tracks this memory, or the kernel refuses; the next look starts anew.
    pub(crate) fn look(&self, tracker: &Arc<Tracker>, bytes: usize) -> io::Result<Written> {
        let mut registration = self.registration.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match &*registration {
            Some(known) if known.tracker.ptr_eq(&Arc::downgrade(tracker)) => Some(known.look),
            Some(known) if known.tracker.strong_count() > 0 => {
                return Err(io::Error::other("another session tracks this memory"));
            }
            _ => None,
        };
        // Whatever happens now: pages of which nobody learned may be protected.
        let known = registration.take();
        let mut pages = PageMap::of_bytes(bytes.min(self.bytes));
        let looked = match known.filter(|_| since.is_some()) {
            Some(_) => tracker.scan(self.start, &mut pages),
            None => tracker.register(self.start, self.bytes),
        };
        if let Err(error) = looked {
            // It may never have been registered.
            let _ = tracker.unregister(self.start, self.bytes);
            return Err(error);
        }
        let look = next_look();
        *registration = Some(Registration { tracker: Arc::downgrade(tracker), look });
        Ok(Written { since, look, pages })
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::super::pages::{PAGE, PageMap};
    use super::{Mark, TrackingUnavailable};
    use memmap2::MmapOptions;
    use nix::libc;
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::sync::Arc;

    // userfaultfd.h
    const UFFD_USER_MODE_ONLY: libc::c_int = 1;
    const UFFD_API: u64 = 0xAA;
    const UFFD_FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
    const UFFD_FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
    const UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;
    const UFFDIO_REGISTER_MODE_WP: u64 = 1 << 1;
    const UFFDIO_WRITEPROTECT_MODE_WP: u64 = 1 << 0;
    /// `_IOWR(0xAA, 0x3F, struct uffdio_api)`
    const UFFDIO_API: libc::c_ulong = 0xC018_AA3F;
    /// `_IOWR(0xAA, 0x00, struct uffdio_register)`
    const UFFDIO_REGISTER: libc::c_ulong = 0xC020_AA00;
    /// `_IOR(0xAA, 0x01, struct uffdio_range)`
    const UFFDIO_UNREGISTER: libc::c_ulong = 0x8010_AA01;
    /// `_IOWR(0xAA, 0x06, struct uffdio_writeprotect)`
    const UFFDIO_WRITEPROTECT: libc::c_ulong = 0xC018_AA06;
    // fs.h
    /// `_IOWR('f', 16, struct pm_scan_arg)`
    const PAGEMAP_SCAN: libc::c_ulong = 0xC060_6610;
    const PM_SCAN_WP_MATCHING: u64 = 1 << 0;
    const PM_SCAN_CHECK_WPASYNC: u64 = 1 << 1;
    const PAGE_IS_WRITTEN: u64 = 1 << 1;

    /// `struct uffdio_api`
    #[repr(C)]
    struct Api {
        api: u64,
        features: u64,
        ioctls: u64,
    }

    /// `struct uffdio_range`
    #[repr(C)]
    struct Range {
        start: u64,
        bytes: u64,
    }

    /// `struct uffdio_register`
    #[repr(C)]
    struct Register {
        range: Range,
        mode: u64,
        ioctls: u64,
    }

    /// `struct uffdio_writeprotect`
    #[repr(C)]
    struct WriteProtect {
        range: Range,
        mode: u64,
    }

    /// `struct pm_scan_arg`
    #[repr(C)]
    struct Scan {
        size: u64,
        flags: u64,
        start: u64,
        end: u64,
        walk_end: u64,
        regions: u64,
        regions_length: u64,
        max_pages: u64,
        category_inverted: u64,
        category_mask: u64,
        category_any_of: u64,
        return_mask: u64,
    }

    /// `struct page_region`
    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    struct Region {
        start: u64,
        end: u64,
        categories: u64,
    }

    /// How many regions a scan asks for at once.
    const REGIONS: usize = 16 << 10;

    /// Looks at memory for one session. When it is dropped, the kernel ends the tracking of all that was registered.
    #[derive(Debug)]
    pub(crate) struct Tracker {
        userfault: OwnedFd,
        pagemap: File,
        /// A forked child inherits both descriptors, but they are about the memory of its parent.
        process: u32,
    }

    fn request<T>(file: &impl AsRawFd, request: libc::c_ulong, argument: &mut T) -> io::Result<libc::c_int> {
        // SAFETY: the descriptor is open; `T` is the C structure that the request reads and writes, and is exclusively
        // borrowed. The memory that it names is only mapped otherwise, with no effect on its contents; the one request
        // that writes elsewhere, the scan, is given its room by `scan`.
        let code = unsafe { libc::ioctl(file.as_raw_fd(), request as _, std::ptr::from_mut(argument)) };
        if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
    }

    impl Tracker {
        /// Opens one and tries it on pages of its own.
        ///
        /// # Errors
        /// Why this machine can't.
        pub(crate) fn probe() -> Result<Self, TrackingUnavailable> {
            const PAGES: usize = 8;
            const ONE: usize = 3;
            let failed = |error: io::Error| TrackingUnavailable::Trial { reason: error.to_string() };
            let tracker = Arc::new(Self::open()?);
            // SAFETY: asks for a number.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            let page = usize::try_from(page).ok().filter(|page| page.is_multiple_of(PAGE)).unwrap_or(PAGE);
            let mut map = MmapOptions::new().len(PAGES * page).map_anon().map_err(failed)?;
            map.fill(1);
            let mark = Mark::new(map.as_ptr(), map.len());
            let first = mark.look(&tracker, map.len()).map_err(failed)?;
            let nothing = mark.look(&tracker, map.len()).map_err(failed)?;
            map[ONE * page] = 2;
            let one = mark.look(&tracker, map.len()).map_err(failed)?;
            let nothing_more = mark.look(&tracker, map.len()).map_err(failed)?;
            let written: Vec<usize> = one.pages.runs_in(0..one.pages.pages()).flatten().collect();
            let expected: Vec<usize> = (ONE * page / PAGE..(ONE + 1) * page / PAGE).collect();
            let empty = nothing.pages.count() == 0 && nothing_more.pages.count() == 0;
            if first.since.is_some() || written != expected || !empty {
                return Err(TrackingUnavailable::Untrue);
            }
            tracker.unregister(map.as_ptr().addr(), map.len()).map_err(failed)?;
            drop(mark);
            Arc::into_inner(tracker).ok_or(TrackingUnavailable::Untrue)
        }

        fn open() -> Result<Self, TrackingUnavailable> {
            let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | UFFD_USER_MODE_ONLY;
            // SAFETY: takes a number and returns a new descriptor or -1.
            let descriptor = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
            let forbidden = |reason: io::Error| TrackingUnavailable::Forbidden { reason: reason.to_string() };
            let descriptor = match i32::try_from(descriptor) {
                Ok(descriptor) if descriptor >= 0 => descriptor,
                _ => return Err(forbidden(io::Error::last_os_error())),
            };
            // SAFETY: it was just opened, and nobody else knows it.
            let userfault = unsafe { OwnedFd::from_raw_fd(descriptor) };
            let features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
            request(&userfault, UFFDIO_API, &mut Api { api: UFFD_API, features, ioctls: 0 })
                .map_err(|error| TrackingUnavailable::Features { reason: error.to_string() })?;
            let pagemap = File::open("/proc/self/pagemap").map_err(forbidden)?;
            Ok(Self { userfault, pagemap, process: std::process::id() })
        }

        fn ensure_own_process(&self) -> io::Result<()> {
            match std::process::id() == self.process {
                true => Ok(()),
                false => Err(io::Error::other("this process was forked from the one that opened the session")),
            }
        }

        /// Begins to track the pages of a map: all of them count as not written.
        pub(super) fn register(&self, start: usize, bytes: usize) -> io::Result<()> {
            self.ensure_own_process()?;
            let range = || Range { start: start as u64, bytes: bytes as u64 };
            let mut register = Register { range: range(), mode: UFFDIO_REGISTER_MODE_WP, ioctls: 0 };
            request(&self.userfault, UFFDIO_REGISTER, &mut register)?;
            let mut protect = WriteProtect { range: range(), mode: UFFDIO_WRITEPROTECT_MODE_WP };
            request(&self.userfault, UFFDIO_WRITEPROTECT, &mut protect).map(drop)
        }

        /// Ends it.
        pub(super) fn unregister(&self, start: usize, bytes: usize) -> io::Result<()> {
            self.ensure_own_process()?;
            let mut range = Range { start: start as u64, bytes: bytes as u64 };
            request(&self.userfault, UFFDIO_UNREGISTER, &mut range).map(drop)
        }

        /// Adds the written pages behind `start` to `pages`, and protects them again.
        // By one thread: a scan of 1 GiB takes some milliseconds, and splitting it took longer than it gained.
        pub(super) fn scan(&self, start: usize, pages: &mut PageMap) -> io::Result<()> {
            self.ensure_own_process()?;
            let mut regions = vec![Region::default(); REGIONS];
            let (mut at, end) = (start as u64, (start + pages.pages() * PAGE) as u64);
            while at < end {
                let mut scan = Scan {
                    size: size_of::<Scan>() as u64,
                    // Refused where the memory is not tracked: silence would look as if nothing had been written.
                    flags: PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
                    start: at,
                    end,
                    walk_end: 0,
                    regions: regions.as_mut_ptr().expose_provenance() as u64,
                    regions_length: regions.len() as u64,
                    max_pages: 0,
                    category_inverted: 0,
                    category_mask: PAGE_IS_WRITTEN,
                    category_any_of: 0,
                    return_mask: PAGE_IS_WRITTEN,
                };
                let found = request(&self.pagemap, PAGEMAP_SCAN, &mut scan)?;
                let found = usize::try_from(found).ok().and_then(|found| regions.get(..found));
                let found = found.filter(|_| scan.walk_end > at);
                let found = found.ok_or_else(|| io::Error::other("the kernel's scan of pages made no progress"))?;
                for region in found {
                    let page = |address: u64| (address.min(end) as usize).saturating_sub(start);
                    pages.set_range(page(region.start) / PAGE..page(region.end).div_ceil(PAGE));
                }
                at = scan.walk_end;
            }
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod stub {
    use super::super::pages::PageMap;
    use super::TrackingUnavailable;
    use std::io;

    /// Never there.
    #[derive(Debug)]
    pub(crate) enum Tracker {}

    impl Tracker {
        pub(crate) fn probe() -> Result<Self, TrackingUnavailable> {
            Err(TrackingUnavailable::System)
        }

        pub(super) fn register(&self, _: usize, _: usize) -> io::Result<()> {
            match *self {}
        }

        pub(super) fn unregister(&self, _: usize, _: usize) -> io::Result<()> {
            match *self {}
        }

        pub(super) fn scan(&self, _: usize, _: &mut PageMap) -> io::Result<()> {
            match *self {}
        }
    }
}
