//! Storage that costs nothing: what benchmarks write to and read from where only the work on the bytes is to be timed.
//!
//! Each of these has one file, whatever it is called, and does nothing that the writer and the reader of a shard don't ask for.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use piton::medium::{Entry, Medium, MediumRead, MediumWrite, Stat};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Bytes in memory of any kind.
pub trait Bytes: Deref<Target = [u8]> + fmt::Debug + Send + Sync + 'static {}
impl<B: Deref<Target = [u8]> + fmt::Debug + Send + Sync + 'static> Bytes for B {}

/// Throws away what is written.
#[derive(Debug)]
pub struct Nowhere;

impl MediumWrite for Nowhere {
    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what is written.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    /// What was written, to be read.
    pub fn into_read(self) -> io::Result<InMemory<Vec<u8>>> {
        let bytes = std::mem::take(&mut *self.0.lock().map_err(|_| io::Error::other("poisoned"))?);
        Ok(InMemory { len: bytes.len(), bytes: Arc::new(bytes) })
    }
}

impl MediumWrite for Kept {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.0.lock().map_err(|_| io::Error::other("poisoned"))?;
        let offset = offset as usize;
        if file.len() < offset + bytes.len() {
            file.resize(offset + bytes.len(), 0);
        }
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file whose content is the first `len` bytes of `bytes`.
#[derive(Debug)]
pub struct InMemory<B> {
    pub bytes: Arc<B>,
    pub len: usize,
}

impl<B: Bytes> MediumRead for InMemory<B> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let part = self.bytes[..self.len].get(offset as usize..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len as u64)
    }
}

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

macro_rules! medium {
    ($name:ty, $create:expr, $open:expr $(, $bytes:ident)?) => {
        impl$(<$bytes: Bytes>)? Medium for $name {
            fn create(&self, _: &Path) -> io::Result<Box<dyn MediumWrite>> {
                let create: fn(&Self) -> io::Result<Box<dyn MediumWrite>> = $create;
                create(self)
            }
            fn open(&self, _: &Path) -> io::Result<Box<dyn MediumRead>> {
                let open: fn(&Self) -> io::Result<Box<dyn MediumRead>> = $open;
                open(self)
            }
            fn create_dir(&self, _: &Path) -> io::Result<bool> {
                unsupported()
            }
            fn append(&self, _: &Path) -> io::Result<(Box<dyn MediumWrite>, u64)> {
                unsupported()
            }
            fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
                unsupported()
            }
            fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
                unsupported()
            }
            fn remove_file(&self, _: &Path) -> io::Result<()> {
                unsupported()
            }
            fn remove_dir(&self, _: &Path) -> io::Result<()> {
                unsupported()
            }
            fn sync_dir(&self, _: &Path) -> io::Result<()> {
                unsupported()
            }
            fn list(&self, _: &Path) -> io::Result<Vec<Entry>> {
                unsupported()
            }
            fn stat(&self, _: &Path) -> io::Result<Stat> {
                unsupported()
            }
            fn room(&self, _: &Path) -> io::Result<Option<u64>> {
                unsupported()
            }
        }
    };
}

medium!(Nowhere, |_| Ok(Box::new(Nowhere)), |_| unsupported());
medium!(Kept, |kept| Ok(Box::new(kept.clone())), |_| unsupported());
medium!(
    InMemory<B>,
    |_| unsupported(),
    |file| Ok(Box::new(InMemory { bytes: Arc::clone(&file.bytes), len: file.len })),
    B
);
