//! The kernel's log.
//!
//! Comes in: the records of `/dev/kmsg`, one for each read; where that is closed to us, the file that the system's logger keeps. Goes
//! out: what the rules say of the lines that came since. What must hold: as for all [logs](super); where the kernel has overwritten
//! records before they were read, that is counted; where nothing can be read, it is absent, and says why.
//!
//! A record is `<facility and level>,<number>,<microseconds>,<flags>;<text>`, then lines that begin with a space and name the device
//! (kernel's `Documentation/ABI/testing/dev-kmsg`). Bytes that are not printable are written as `\x0a`. Records of all facilities count: only
//! who may write to the device, which is root, can add some.

use super::gather::Gathered;
use super::rules::LogRules;
use super::tail::Tail;
use super::{LONGEST_LINE, LogSource};
use crate::watch::Finding;
use std::borrow::Cow;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Where the kernel gives its records.
const DEVICE: &str = "/dev/kmsg";
/// The device that it is: major number 1, minor 11.
const DEVICE_NUMBER: u64 = 1 << 8 | 11;
/// Where system loggers put them.
const FILES: [&str; 2] = ["/var/log/kern.log", "/var/log/messages"];
/// No record is longer (`CONSOLE_EXT_LOG_MAX` is half of it).
const RECORD: usize = 16 << 10;
/// Most records that one poll looks at; the rest waits in the kernel.
const MOST_RECORDS: usize = 8192;

/// The kernel's log, from now on.
///
/// ```
/// use piton::watch::{KernelLog, LogRules};
/// let mut log = KernelLog::open(&LogRules::defaults());
/// match log.absent() {
///     Some(why) => println!("no kernel log: {why}"),
///     None => drop(log.poll()),
/// }
/// ```
#[derive(Debug)]
pub struct KernelLog {
    rules: LogRules,
    origin: Origin,
    /// The text of the last record, which the next may go on with.
    last: Vec<u8>,
    overruns: u64,
    unreadable: u64,
    dropped: u64,
}

enum Origin {
    Records(Box<dyn Read + Send>, Vec<u8>),
    File(Tail),
    Nothing(String),
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Records(..) => "Records",
            Self::File(_) => "File",
            Self::Nothing(_) => "Nothing",
        })
    }
}

impl KernelLog {
    /// Follows the kernel's log from its present end on.
    #[must_use]
    pub fn open(rules: &LogRules) -> Self {
        Self::open_at(Path::new(DEVICE), &FILES.map(Path::new), rules)
    }

    /// As [`Self::open`], with the device and the files in other places: those of a node under another root.
    #[must_use]
    pub fn open_at(device: &Path, files: &[&Path], rules: &LogRules) -> Self {
        let refused = match open_device(device) {
            Ok(file) => return Self::from_records(file, rules),
            Err(error) => format!("{}: {error}", device.display()),
        };
        let followed = files.iter().map(|path| Tail::new(path, false)).find(|tail| tail.absent().is_none());
        let origin = followed.map_or_else(
            || {
                let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
                let files = if files.is_empty() { String::new() } else { format!("; nor can {}", files.join(" or ")) };
                Origin::Nothing(format!(
                    "{refused}: it cannot be read (that takes CAP_SYSLOG where kernel.dmesg_restrict is 1){files}"
                ))
            },
            Origin::File,
        );
        Self::new(origin, rules)
    }

    /// Follows records from elsewhere: each read gives one, as those of `/dev/kmsg` do, or [`ErrorKind::WouldBlock`] where there is none
    /// yet.
    #[must_use]
    pub fn from_records(records: impl Read + Send + 'static, rules: &LogRules) -> Self {
        Self::new(Origin::Records(Box::new(records), vec![0; RECORD]), rules)
    }

    fn new(origin: Origin, rules: &LogRules) -> Self {
        Self { rules: rules.clone(), origin, last: Vec::new(), overruns: 0, unreadable: 0, dropped: 0 }
    }

    /// Why the log cannot be read, where that is so.
    #[must_use]
    pub fn absent(&self) -> Option<&str> {
        match &self.origin {
            Origin::Records(..) => None,
            Origin::File(tail) => tail.absent(),
            Origin::Nothing(why) => Some(why),
        }
    }

    /// How often records were overwritten before they were read.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// How many records were not of the form that is known.
    #[must_use]
    pub fn unreadable_records(&self) -> u64 {
        self.unreadable
    }

    /// How many bytes were passed over, because more came between two polls than one looks at; of a file only.
    #[must_use]
    pub fn skipped_bytes(&self) -> u64 {
        match &self.origin {
            Origin::File(tail) => tail.skipped(),
            _ => 0,
        }
    }

    /// How many findings were not given, because one poll had too many different ones.
    #[must_use]
    pub fn dropped_findings(&self) -> u64 {
        self.dropped
    }

    /// What the records say that came since the last call. It waits for nothing.
    pub fn poll(&mut self) -> Vec<Finding> {
        let mut gathered = Gathered::default();
        let rules = &self.rules;
        let gone = match &mut self.origin {
            Origin::Nothing(_) => None,
            Origin::File(tail) => {
                // Such files hold what other programs say, too.
                let of_kernel = |line: &[u8]| line.windows(7).any(|window| window == b"kernel:");
                tail.poll(&mut |line| {
                    if of_kernel(line) {
                        gathered.extend(rules.look(LogSource::Kernel, line));
                    }
                });
                None
            }
            Origin::Records(records, buffer) => {
                let mut gone = None;
                for _ in 0..MOST_RECORDS {
                    match records.read(buffer) {
                        Ok(0) => break,
                        Ok(length) => match Record::parse(&buffer[..length]) {
                            Some(record) => {
                                record.onto(&mut self.last);
                                gathered.extend(rules.look(LogSource::Kernel, &self.last));
                            }
                            None => self.unreadable += 1,
                        },
                        Err(error) => match error.kind() {
                            ErrorKind::WouldBlock => break,
                            ErrorKind::Interrupted => {}
                            // What was next is overwritten; reading goes on with the oldest that is left.
                            ErrorKind::BrokenPipe => self.overruns += 1,
                            _ => {
                                gone = Some(format!("the kernel's log can be read no longer: {error}"));
                                break;
                            }
                        },
                    }
                }
                gone
            }
        };
        if let Some(why) = gone {
            self.origin = Origin::Nothing(why);
        }
        let (findings, dropped) = gathered.finish();
        self.dropped += dropped;
        findings
    }
}

fn open_device(path: &Path) -> io::Result<File> {
    let mut file =
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    // In containers something else may have the name.
    if !metadata.file_type().is_char_device() || metadata.rdev() != DEVICE_NUMBER {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not the kernel's log"));
    }
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

/// A record of the log.
struct Record<'r> {
    text: Cow<'r, [u8]>,
    /// It goes on where the one before ended.
    continues: bool,
}

impl<'r> Record<'r> {
    fn parse(record: &'r [u8]) -> Option<Self> {
        let split = record.iter().take(256).position(|byte| *byte == b';')?;
        let (head, text) = (std::str::from_utf8(&record[..split]).ok()?, &record[split + 1..]);
        let mut fields = head.split(',');
        // Facility and level, number, time; what may follow is for later kernels to say.
        for _ in 0..3 {
            fields.next()?.trim_start_matches('-').parse::<u64>().ok()?;
        }
        let continues = fields.next().is_some_and(|flags| flags.contains('+'));
        let text = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Some(Self { text: unescaped(text), continues })
    }

    /// Makes `line` what this and those before it that it goes on with say.
    fn onto(&self, line: &mut Vec<u8>) {
        if !self.continues {
            line.clear();
        }
        let room = LONGEST_LINE - line.len().min(LONGEST_LINE);
        line.extend_from_slice(&self.text[..self.text.len().min(room)]);
    }
}

/// The text with `\x0a` as the byte that it stands for.
fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let (mut plain, mut rest) = (Vec::with_capacity(text.len()), text);
    while let [byte, after @ ..] = rest {
        let code = match after {
            [b'x', high, low, ..] if *byte == b'\\' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match code {
            Some((high, low)) => {
                plain.push(high << 4 | low);
                rest = &rest[4..];
            }
            None => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    Cow::Owned(plain)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::io::Write;

    /// Gives one record a read, or an error.
    struct Script(VecDeque<Result<Vec<u8>, i32>>);

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.pop_front() {
                None => Err(ErrorKind::WouldBlock.into()),
                Some(Err(errno)) => Err(io::Error::from_raw_os_error(errno)),
                Some(Ok(record)) => {
                    buffer[..record.len()].copy_from_slice(&record);
                    Ok(record.len())
                }
            }
        }
    }

    fn log(script: impl IntoIterator<Item = Result<&'static str, i32>>) -> KernelLog {
        let script = script.into_iter().map(|entry| entry.map(|text| text.as_bytes().to_vec())).collect();
        KernelLog::from_records(Script(script), &LogRules::defaults())
    }

    fn rules_of(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.rule.as_str()).collect()
    }

    #[test]
    fn records_are_read_until_there_is_none() {
        let mut log = log([
            Ok("6,1,100,-;usb 1-1: new high-speed USB device\n SUBSYSTEM=usb\n DEVICE=c189:1\n"),
            Ok(
                "3,2,101,-;I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2\n SUBSYSTEM=block\n",
            ),
            Ok("3,3,102,-;I/O error, dev sda, sector 2056 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2\n"),
        ]);
        let findings = log.poll();
        assert_eq!(rules_of(&findings), ["DiskError"]);
        assert!(findings[0].summary.ends_with("(2 times)"), "{}", findings[0].summary);
        assert_eq!((log.poll(), log.absent(), log.overruns()), (vec![], None, 0));
    }

    #[test]
    fn what_the_kernel_overwrote_is_counted() {
        let mut log = log([
            Err(nix::libc::EPIPE),
            Ok("4,9,100,-;INFO: task solver:4711 blocked for more than 120 seconds.\n"),
            Err(nix::libc::EINTR),
            Err(nix::libc::EPIPE),
        ]);
        assert_eq!((rules_of(&log.poll()), log.overruns()), (vec!["TaskHangs"], 2));
        assert_eq!(log.absent(), None);
    }

    #[test]
    fn a_log_that_is_taken_away_is_absent() {
        let mut log =
            log([Ok("6,1,100,-;fine\n"), Err(nix::libc::EPERM), Ok("3,2,101,-;I/O error, dev sda, sector 1\n")]);
        assert_eq!(log.poll(), []);
        assert!(log.absent().is_some_and(|why| why.contains("no longer")), "{:?}", log.absent());
        assert_eq!(log.poll(), []);
    }

    #[test]
    fn records_that_go_on_are_joined_and_others_are_counted() {
        let mut log = log([
            Ok("3,1,100,c;I/O error, dev\n"),
            Ok("3,2,101,+; sdb, sector 7\n"),
            Ok("no record\n"),
            Ok("3,x,101,-;I/O error, dev sdc, sector 7\n"),
            Ok("3,5,101,-;I/O error,\\x20dev sdd, sector 7\n"),
        ]);
        let findings = log.poll();
        let devices: Vec<&str> = findings.iter().map(|finding| finding.labels["device"].as_str()).collect();
        assert_eq!((devices, log.unreadable_records()), (vec!["sdb", "sdd"], 2));
    }

    #[test]
    fn without_the_device_a_file_of_the_logger_serves() {
        let folder = tempfile::tempdir().unwrap();
        let (file, none) = (folder.path().join("kern.log"), folder.path().join("none"));
        std::fs::write(&file, "Nov 22 06:10:10 node01 kernel: [1.0] I/O error, dev sda, sector 1\n").unwrap();
        let rules = LogRules::defaults();
        // A file is not the device, whatever its name.
        let mut log = KernelLog::open_at(&file, &[&none, &file], &rules);
        assert_eq!(log.absent(), None);
        let mut appended = OpenOptions::new().append(true).open(&file).unwrap();
        appended
            .write_all(
                b"Nov 22 06:10:11 node01 solver: I/O error, dev sdb, sector 1\n\
                  Nov 22 06:10:11 node01 kernel: [2.0] I/O error, dev sdc, sector 1\n",
            )
            .unwrap();
        let findings = log.poll();
        assert_eq!(
            (findings.len(), findings[0].labels["device"].as_str()),
            (1, "sdc"),
            "from now on, and the kernel's own"
        );
        let log = KernelLog::open_at(&none, &[&none], &rules);
        assert!(
            log.absent().is_some_and(|why| why.contains("CAP_SYSLOG") && why.contains("none")),
            "{:?}",
            log.absent()
        );
    }

    #[test]
    fn escapes_stand_for_bytes() {
        assert_eq!(&*unescaped(br"a\x09b\x5cx41\xzz\x4"), b"a\tb\\x41\\xzz\\x4".as_slice());
    }

    proptest! {
        #[test]
        fn no_record_makes_it_panic(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..20)) {
            let script = records.into_iter().map(Ok).collect();
            let mut log = KernelLog::from_records(Script(script), &LogRules::defaults());
            log.poll();
            prop_assert_eq!(log.absent(), None);
        }

        #[test]
        fn texts_come_out_as_they_went_in(text in "[ -\\[\\]-~]{0,80}", number in any::<u32>(), flags in "[-c]") {
            let record = format!("6,{number},12345,{flags};{text}\n SUBSYSTEM=x\n");
            let record = Record::parse(record.as_bytes()).unwrap();
            prop_assert_eq!(&*record.text, text.as_bytes());
            prop_assert!(!record.continues);
        }
    }
}
