//! Ways to bring a shard to the storage, side by side: which of them the writer should take, on which file system.
//!
//! Comes in: folders, or none: then the build's own, memory (`/dev/shm`), and, for root where `mkfs.xfs` is installed, an XFS
//! in a file of the build's. Goes out: for each way the bytes a second until all is durable, the processor seconds that the
//! whole machine spent on a GiB, and how much of the page cache it filled.
//! What must hold: every way writes the same bytes in the same pieces, and ends with `fsync`; ways are measured in turn, so
//! that what else the machine does hits all alike.
//!
//! `cargo bench --bench write -- --help` lists the options. Run it on a machine that does nothing else.

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("the ways that are compared are those of Linux");
}

#[cfg(target_os = "linux")]
fn main() -> Result<(), linux::Failure> {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use io_uring::{IoUring, opcode, types};
    use memmap2::{Advice, MmapMut, MmapOptions};
    use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
    use nix::libc;
    use std::error::Error;
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Barrier;
    use std::time::Instant;

    pub(super) type Failure = Box<dyn Error>;

    /// What is written at once, as the writer does.
    const PIECE: usize = 4 << 20;
    /// Pieces that exist: one being written, others being filled.
    const PIECES: usize = 4;

    const HELP: &str = "\
Ways to bring a shard to the storage, side by side.

  --dir DIR       a folder on the file system to measure; may be given several times
                  [the build's own, /dev/shm, and an XFS in a file where that can be made]
  --mib N         MiB of each stream [256]
  --streams N     files that are written at the same time [2]
  --runs N        how often each way is measured [7]
";

    struct Arguments {
        folders: Vec<PathBuf>,
        bytes: usize,
        streams: usize,
        runs: usize,
    }

    fn arguments() -> Result<Option<Arguments>, Failure> {
        let mut parsed = Arguments { folders: Vec::new(), bytes: 256 << 20, streams: 2, runs: 7 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--dir" => parsed.folders.push(value()?.into()),
                "--mib" => parsed.bytes = value()?.parse::<usize>()?.clamp(PIECE >> 20, 1 << 16) << 20,
                "--streams" => parsed.streams = value()?.parse::<usize>()?.clamp(1, 64),
                "--runs" => parsed.runs = value()?.parse::<usize>()?.clamp(1, 1000),
                "--help" | "-h" => {
                    print!("{HELP}");
                    return Ok(None);
                }
                // What cargo hands to every benchmark.
                "--bench" => {}
                other => return Err(format!("what is {other:?}? --help lists the options").into()),
            }
        }
        Ok(Some(parsed))
    }

    /// How a file is written.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Way {
        /// Through the page cache, synced at the end.
        Buffered,
        /// Through the page cache; writing back begins with each piece, and what is written back is dropped from the cache.
        BufferedRange,
        /// Past the page cache, one write after the other: what the writer does.
        Direct,
        /// The same into a file whose room was taken before.
        DirectAllocated,
        /// Past the page cache, two writes at a time from two threads.
        DirectTwo,
        /// Past the page cache by io_uring, up to three writes at a time.
        Ring,
        /// The same into a file whose room was taken before.
        RingAllocated,
    }

    const WAYS: [Way; 7] = [
        Way::Buffered,
        Way::BufferedRange,
        Way::Direct,
        Way::DirectAllocated,
        Way::DirectTwo,
        Way::Ring,
        Way::RingAllocated,
    ];

    impl Way {
        fn name(self) -> &'static str {
            match self {
                Self::Buffered => "buffered, fsync",
                Self::BufferedRange => "buffered, sync_file_range",
                Self::Direct => "O_DIRECT",
                Self::DirectAllocated => "O_DIRECT, fallocate",
                Self::DirectTwo => "O_DIRECT, 2 threads",
                Self::Ring => "O_DIRECT, io_uring",
                Self::RingAllocated => "O_DIRECT, io_uring, fallocate",
            }
        }

        fn write(self, path: &Path, source: &MmapMut, bytes: usize) -> io::Result<()> {
            let direct = !matches!(self, Self::Buffered | Self::BufferedRange);
            let flags = if direct { libc::O_DIRECT } else { 0 };
            let file = OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path)?;
            if matches!(self, Self::DirectAllocated | Self::RingAllocated) {
                fallocate(&file, FallocateFlags::empty(), 0, bytes as libc::off_t)?;
            }
            let pieces = bytes / PIECE;
            let piece = |number: usize| &source[number % PIECES * PIECE..][..PIECE];
            match self {
                Self::Buffered | Self::Direct | Self::DirectAllocated => {
                    for number in 0..pieces {
                        file.write_all_at(piece(number), (number * PIECE) as u64)?;
                    }
                }
                Self::BufferedRange => {
                    for number in 0..pieces {
                        file.write_all_at(piece(number), (number * PIECE) as u64)?;
                        write_back(&file, number, false)?;
                        if let Some(before) = number.checked_sub(PIECES) {
                            write_back(&file, before, true)?;
                        }
                    }
                }
                Self::DirectTwo => {
                    let half = |first: usize| {
                        (first..pieces)
                            .step_by(2)
                            .try_for_each(|number| file.write_all_at(piece(number), (number * PIECE) as u64))
                    };
                    std::thread::scope(|scope| {
                        let other = scope.spawn(|| half(1));
                        half(0).and(other.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))))
                    })?;
                }
                Self::Ring | Self::RingAllocated => ring(&file, source, pieces)?,
            }
            file.sync_all()
        }
    }

    /// Begins to write a piece back, or waits until that is done and gives its pages to others.
    fn write_back(file: &File, number: usize, wait: bool) -> io::Result<()> {
        let flags = match wait {
            false => libc::SYNC_FILE_RANGE_WRITE,
            true => libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER,
        };
        let (offset, length) = ((number * PIECE) as i64, PIECE as i64);
        // SAFETY: the descriptor is open, and the call touches no memory of ours.
        let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        if wait {
            posix_fadvise(file, offset, length, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        }
        Ok(())
    }

    /// Writes `pieces` pieces with up to three writes in flight.
    fn ring(file: &File, source: &MmapMut, pieces: usize) -> io::Result<()> {
        const DEPTH: usize = PIECES - 1;
        let mut ring = IoUring::new(8)?;
        let (mut begun, mut done) = (0, 0);
        while done < pieces {
            while begun < pieces && begun - done < DEPTH {
                let bytes = &source[begun % PIECES * PIECE..][..PIECE];
                let entry = opcode::Write::new(types::Fd(file.as_raw_fd()), bytes.as_ptr(), PIECE as u32)
                    .offset((begun * PIECE) as u64)
                    .build();
                // SAFETY: file and memory live until all writes have completed, which is waited for below; where that fails, the
                // ring is dropped first, which ends what is in flight, and the memory is only read.
                unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
                begun += 1;
            }
            ring.submit_and_wait(1)?;
            for completed in ring.completion() {
                match completed.result() {
                    length if length == PIECE as i32 => done += 1,
                    error if error < 0 => return Err(io::Error::from_raw_os_error(-error)),
                    _ => return Err(io::Error::from(io::ErrorKind::WriteZero)),
                }
            }
        }
        Ok(())
    }

    /// Pieces of noise, in huge pages where there are some.
    fn noise() -> io::Result<MmapMut> {
        let mut map = MmapOptions::new().len(PIECE * PIECES).map_anon()?;
        let _ = map.advise(Advice::HugePage);
        let mut state = 1u64;
        for word in map.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&(state ^ (state >> 29)).to_le_bytes());
        }
        Ok(map)
    }

    /// Seconds that all processors together were not idle.
    fn busy_seconds() -> io::Result<f64> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        // Neither idle nor waiting for storage; the guests' time is part of the user's.
        let busy: f64 =
            ticks.iter().enumerate().filter(|(place, _)| !matches!(place, 3 | 4 | 8 | 9)).map(|(_, t)| t).sum();
        Ok(busy / 100.0)
    }

    fn cached_mib() -> io::Result<f64> {
        let text = std::fs::read_to_string("/proc/meminfo")?;
        let line = text.lines().find(|line| line.starts_with("Cached:")).unwrap_or_default();
        Ok(line.split_whitespace().nth(1).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0)
    }

    #[derive(Default)]
    struct Series {
        seconds: Vec<f64>,
        busy: Vec<f64>,
        cached: Vec<f64>,
    }

    fn median(values: &mut [f64]) -> f64 {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn measure(
        folder: &Path,
        way: Way,
        arguments: &Arguments,
        source: &MmapMut,
        series: &mut Series,
    ) -> io::Result<()> {
        let scratch = tempfile::tempdir_in(folder)?;
        nix::unistd::sync();
        let (busy, cached, start) = (busy_seconds()?, cached_mib()?, Instant::now());
        let barrier = Barrier::new(arguments.streams);
        std::thread::scope(|scope| {
            let streams = (0..arguments.streams).map(|stream| {
                let (path, barrier) = (scratch.path().join(stream.to_string()), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    way.write(&path, source, arguments.bytes)
                })
            });
            let streams: Vec<_> = streams.collect();
            streams
                .into_iter()
                .try_for_each(|stream| stream.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))))
        })?;
        series.seconds.push(start.elapsed().as_secs_f64());
        series.busy.push(busy_seconds()? - busy);
        series.cached.push(cached_mib()? - cached);
        Ok(())
    }

    /// An XFS in a file, mounted.
    struct Image {
        mounted: PathBuf,
        _scratch: tempfile::TempDir,
    }

    impl Image {
        fn of_xfs(folder: &Path, bytes: u64) -> Result<Self, Failure> {
            let scratch = tempfile::tempdir_in(folder)?;
            let image = scratch.path().join("image");
            File::create(&image)?.set_len(bytes.max(512 << 20))?;
            run(Command::new("mkfs.xfs").arg("-q").arg(&image))?;
            let mounted = scratch.path().join("mounted");
            std::fs::create_dir(&mounted)?;
            // Past the page cache of the file system below, too.
            let looped = Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(&image).output()?;
            let device = String::from_utf8_lossy(&looped.stdout).trim().to_owned();
            let result = run(Command::new("mount").arg(&device).arg(&mounted));
            // Taken apart when it is unmounted.
            let _ = Command::new("losetup").arg("--detach").arg(&device).output();
            result.map(|()| Self { mounted, _scratch: scratch })
        }
    }

    impl Drop for Image {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(&self.mounted).status();
        }
    }

    fn run(command: &mut Command) -> Result<(), Failure> {
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into()),
        }
    }

    pub(super) fn main() -> Result<(), Failure> {
        let Some(arguments) = arguments()? else { return Ok(()) };
        let mut folders: Vec<(String, PathBuf)> =
            arguments.folders.iter().map(|folder| (folder.display().to_string(), folder.clone())).collect();
        let mut image = None;
        if folders.is_empty() {
            let own = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
            std::fs::create_dir_all(&own)?;
            match Image::of_xfs(&own, (arguments.bytes * arguments.streams * 2) as u64) {
                Ok(made) => folders.push(("XFS in a file".into(), image.insert(made).mounted.clone())),
                Err(why) => println!("no XFS: {why}"),
            }
            folders.push(("/dev/shm".into(), "/dev/shm".into()));
            folders.insert(0, ("the build's file system".into(), own));
        }
        let source = noise()?;
        let all = (arguments.bytes * arguments.streams) as f64;
        for (name, folder) in &folders {
            println!(
                "\n{name}: {} streams of {} MiB, median of {}",
                arguments.streams,
                arguments.bytes >> 20,
                arguments.runs
            );
            println!(
                "{:<32} {:>8} {:>12} {:>18} {:>14}",
                "way", "GB/s", "÷ O_DIRECT", "busy s for a GiB", "cached MiB"
            );
            let mut series: Vec<Series> = WAYS.iter().map(|_| Series::default()).collect();
            let mut refused = WAYS.map(|_| None);
            for _ in 0..arguments.runs {
                for ((way, series), refused) in WAYS.iter().zip(&mut series).zip(&mut refused) {
                    if refused.is_none()
                        && let Err(why) = measure(folder, *way, &arguments, &source, series)
                    {
                        *refused = Some(why);
                    }
                }
            }
            let of_direct = WAYS.iter().position(|way| *way == Way::Direct).unwrap_or_default();
            let direct = median(&mut series[of_direct].seconds);
            for ((way, series), refused) in WAYS.iter().zip(&mut series).zip(refused) {
                if let Some(why) = refused {
                    println!("{:<32} refused: {why}", way.name());
                    continue;
                }
                let seconds = median(&mut series.seconds);
                println!(
                    "{:<32} {:>8.2} {:>12.2} {:>18.3} {:>14.0}",
                    way.name(),
                    all / seconds * 1e-9,
                    direct / seconds,
                    median(&mut series.busy) / all * f64::from(1 << 30),
                    median(&mut series.cached)
                );
            }
        }
        drop(image);
        Ok(())
    }
}
