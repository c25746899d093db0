//! The file system that the double keeps: for every file and folder what is durable, and what was done since.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Number of a file or folder, whatever names it has.
pub(super) type NodeId = u64;

/// The folder `/`.
pub(super) const ROOT: NodeId = 0;

/// Longer files are refused: a test that makes one has lost a length.
const MAX_FILE: u64 = 1 << 32;

/// Bytes of a file at one moment.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub bytes: Vec<u8>,
    pub digest: u64,
}

impl Content {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: xxh3_64(&bytes), bytes }
    }
}

/// Something done to a file's bytes.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    SetLen(u64),
}

impl Change {
    /// Applies it to `bytes`.
    pub fn apply(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let end = match self {
            Self::Write { offset, bytes } => offset.saturating_add(bytes.len() as u64),
            Self::SetLen(len) => *len,
        };
        if end > MAX_FILE {
            return Err(io::Error::from_raw_os_error(nix::libc::EFBIG));
        }
        let end = usize::try_from(end).map_err(io::Error::other)?;
        match self {
            Self::Write { bytes: written, .. } if written.is_empty() => {}
            Self::Write { bytes: written, .. } => {
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[end - written.len()..end].copy_from_slice(written);
            }
            Self::SetLen(_) => bytes.resize(end, 0),
        }
        Ok(())
    }
}

/// Something done to the names in a folder. Each is atomic.
#[derive(Debug, Clone)]
pub(super) enum NameChange {
    /// Created, linked, or made as a folder.
    Give { name: String, node: NodeId },
    /// Renamed.
    Move { from: String, to: String, node: NodeId },
    /// Removed.
    Take { name: String },
}

impl NameChange {
    pub fn apply(&self, names: &mut BTreeMap<String, NodeId>) {
        match self {
            Self::Give { name, node } => {
                names.insert(name.clone(), *node);
            }
            Self::Move { from, to, node } => {
                // In a crash state an earlier change may be missing: another file may have the old name then.
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
            Self::Take { name } => {
                names.remove(name);
            }
        }
    }

    /// The node that the change gives a name to.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::Give { node, .. } | Self::Move { node, .. } => Some(*node),
            Self::Take { .. } => None,
        }
    }
}

/// A file.
#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    /// As of the last sync that worked.
    pub durable: Arc<Content>,
    /// What was done since, in order.
    pub pending: Vec<Change>,
    /// A sync has failed: as on real systems, later ones say that all is well and do nothing.
    pub deceiving: bool,
}

/// A folder.
#[derive(Debug, Clone, Default)]
pub(super) struct FolderNode {
    pub durable: BTreeMap<String, NodeId>,
    pub pending: Vec<NameChange>,
    /// `durable` with all of `pending`.
    pub live: BTreeMap<String, NodeId>,
}

/// A file or a folder.
#[derive(Debug, Clone)]
pub(super) enum Node {
    File(FileNode),
    Folder(FolderNode),
}

/// All files and folders. Clones share what does not change.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub nodes: BTreeMap<NodeId, Arc<Node>>,
    next: NodeId,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Arc::new(Node::Folder(FolderNode::default())))]), next: ROOT + 1 }
    }
}

pub(super) fn error(kind: io::ErrorKind, what: &str, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{what}: {}", path.display()))
}

/// The names that a path is made of.
fn names_of(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => match name.to_str() {
                Some(name) => names.push(name),
                None => return Err(error(io::ErrorKind::InvalidInput, "a name that is not UTF-8", path)),
            },
            Component::ParentDir | Component::Prefix(_) => {
                return Err(error(io::ErrorKind::InvalidInput, "a path with .. in it", path));
            }
        }
    }
    Ok(names)
}

impl Tree {
    /// The node that `path` names now.
    pub fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut at = ROOT;
        for name in names_of(path)? {
            at = *self
                .folder(at, path)?
                .live
                .get(name)
                .ok_or_else(|| error(io::ErrorKind::NotFound, "no such file or folder", path))?;
        }
        Ok(at)
    }

    /// The folder that holds `path`'s last name, and that name.
    pub fn find_parent<'a>(&self, path: &'a Path) -> io::Result<(NodeId, &'a str)> {
        let mut names = names_of(path)?;
        let last = names.pop().ok_or_else(|| error(io::ErrorKind::InvalidInput, "the root itself", path))?;
        let mut at = ROOT;
        for name in names {
            at = *self
                .folder(at, path)?
                .live
                .get(name)
                .ok_or_else(|| error(io::ErrorKind::NotFound, "no such folder", path))?;
        }
        self.folder(at, path)?;
        Ok((at, last))
    }

    pub fn folder(&self, node: NodeId, path: &Path) -> io::Result<&FolderNode> {
        match self.nodes.get(&node).map(AsRef::as_ref) {
            Some(Node::Folder(folder)) => Ok(folder),
            Some(Node::File(_)) => Err(error(io::ErrorKind::NotADirectory, "not a folder", path)),
            None => Err(error(io::ErrorKind::NotFound, "removed", path)),
        }
    }

    pub fn folder_mut(&mut self, node: NodeId, path: &Path) -> io::Result<&mut FolderNode> {
        match self.nodes.get_mut(&node).map(Arc::make_mut) {
            Some(Node::Folder(folder)) => Ok(folder),
            Some(Node::File(_)) => Err(error(io::ErrorKind::NotADirectory, "not a folder", path)),
            None => Err(error(io::ErrorKind::NotFound, "removed", path)),
        }
    }

    pub fn file_mut(&mut self, node: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&node).map(Arc::make_mut) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    pub fn is_folder(&self, node: NodeId) -> bool {
        matches!(self.nodes.get(&node).map(AsRef::as_ref), Some(Node::Folder(_)))
    }

    /// Adds a node that no name leads to yet.
    pub fn add(&mut self, node: Node) -> NodeId {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Arc::new(node));
        id
    }

    /// Changes the names in `folder`, not durably.
    pub fn change_names(&mut self, folder: NodeId, change: NameChange, path: &Path) -> io::Result<()> {
        let folder = self.folder_mut(folder, path)?;
        change.apply(&mut folder.live);
        folder.pending.push(change);
        Ok(())
    }

    /// Everything that has a name now, once each.
    pub fn named(&self) -> BTreeSet<NodeId> {
        let (mut seen, mut queue) = (BTreeSet::new(), vec![ROOT]);
        while let Some(id) = queue.pop() {
            if seen.insert(id)
                && let Some(Node::Folder(folder)) = self.nodes.get(&id).map(AsRef::as_ref)
            {
                queue.extend(folder.live.values().copied());
            }
        }
        seen
    }

    /// Forgets what no name leads to, in no crash state, and no handle in `open` either. Returns what it forgot.
    pub fn sweep(&mut self, open: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
        let mut seen = BTreeSet::new();
        let mut queue: Vec<NodeId> = open.into_iter().chain([ROOT]).collect();
        while let Some(id) = queue.pop() {
            if !seen.insert(id) {
                continue;
            }
            if let Some(Node::Folder(folder)) = self.nodes.get(&id).map(AsRef::as_ref) {
                queue.extend(folder.durable.values().chain(folder.live.values()).copied());
                queue.extend(folder.pending.iter().filter_map(NameChange::node));
            }
        }
        let lost: Vec<NodeId> = self.nodes.keys().filter(|id| !seen.contains(id)).copied().collect();
        for id in &lost {
            self.nodes.remove(id);
        }
        lost
    }
}
