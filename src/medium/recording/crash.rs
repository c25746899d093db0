//! Which states a crash may leave behind.
//!
//! Comes in: a [`Snapshot`] with its pending changes. Goes out: [`Image`]s, each a state that a file system may show after
//! the power came back. The model: a file's bytes since its last sync may persist as none, all, any prefix, all but one
//! write, one write alone, with the last write torn at a sector or page, or as a longer file whose new part is zeros; a
//! folder's names since its last sync persist as any prefix of the changes, or as all but one of them. Each change of names
//! is atomic, but independent of the bytes of the file named.

use super::kill::mix;
use super::tree::{Change, Content, FileNode, FolderNode, Node, NodeId, ROOT, Tree};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Above this many pending writes in one file, only a sample of them is left out one by one.
const WRITES_EACH: usize = 12;

/// What a file system shows after a crash: a whole tree, all of it durable.
#[derive(Debug, Clone)]
pub struct Image {
    pub(super) entries: BTreeMap<PathBuf, ImageEntry>,
    digest: u64,
}

#[derive(Debug, Clone)]
pub(super) enum ImageEntry {
    Folder,
    /// Names with one number are one file.
    File {
        node: NodeId,
        content: Arc<Content>,
    },
}

impl Image {
    fn new(entries: BTreeMap<PathBuf, ImageEntry>) -> Self {
        let mut hasher = Xxh3::new();
        for (path, entry) in &entries {
            hasher.update(path.as_os_str().as_encoded_bytes());
            match entry {
                ImageEntry::Folder => hasher.update(b"\0folder"),
                ImageEntry::File { content, .. } => {
                    hasher.update(b"\0file");
                    hasher.update(&content.digest.to_le_bytes());
                }
            }
        }
        Self { digest: hasher.digest(), entries }
    }

    /// A number that images of equal names and bytes have in common.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The bytes of the file `path`, if there is one.
    #[must_use]
    pub fn file(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        match self.entries.get(path.as_ref()) {
            Some(ImageEntry::File { content, .. }) => Some(&content.bytes),
            _ => None,
        }
    }

    /// Every file and its bytes, by path.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.entries.iter().filter_map(|(path, entry)| match entry {
            ImageEntry::File { content, .. } => Some((path.as_path(), content.bytes.as_slice())),
            ImageEntry::Folder => None,
        })
    }

    /// Every folder, by path.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.entries.iter().filter_map(|(path, entry)| matches!(entry, ImageEntry::Folder).then_some(path.as_path()))
    }
}

/// The medium at one moment, with everything that was not durable then. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshot(pub(super) Arc<Tree>);

impl Snapshot {
    /// The states that a crash at this moment may leave, without repetitions: all of them where there are at most `bound`
    /// combinations; otherwise about `bound`, chosen by `seed`, with these always among them: nothing pending persisted,
    /// everything did, and of each file and folder alone nothing, or everything.
    #[must_use]
    pub fn crash_images(&self, bound: usize, seed: u64) -> Vec<Image> {
        Enumeration::default().images(&self.0, bound, seed)
    }

    /// Nothing persisted but what was synced.
    #[must_use]
    pub fn durable_image(&self) -> Image {
        image(&self.0, |_, folder| folder.durable.clone(), |_, file| Arc::clone(&file.durable))
    }

    /// Everything persisted: what the next process sees after a kill without a power failure.
    #[must_use]
    pub fn live_image(&self) -> Image {
        image(&self.0, |_, folder| folder.live.clone(), |_, file| all_of(file))
    }
}

fn all_of(file: &FileNode) -> Arc<Content> {
    if file.pending.is_empty() { Arc::clone(&file.durable) } else { Arc::new(with(file, |_| true, None)) }
}

/// The file's durable bytes with the pending changes whose index passes, at least `len` bytes long.
fn with(file: &FileNode, passes: impl Fn(usize) -> bool, len: Option<usize>) -> Content {
    let mut bytes = file.durable.bytes.clone();
    for (index, change) in file.pending.iter().enumerate() {
        if passes(index) {
            // Cannot fail: it was applied to the live bytes when it was made.
            let _ = change.apply(&mut bytes);
        }
    }
    if let Some(len) = len
        && bytes.len() < len
    {
        bytes.resize(len, 0);
    }
    Content::new(bytes)
}

/// Builds the tree that the choices make, from the root.
fn image(
    tree: &Tree,
    names: impl Fn(NodeId, &FolderNode) -> BTreeMap<String, NodeId>,
    bytes: impl Fn(NodeId, &FileNode) -> Arc<Content>,
) -> Image {
    let mut entries = BTreeMap::new();
    let mut queue = vec![(PathBuf::from("/"), ROOT)];
    // Ends, for a folder only ever has names in one other: a state may show it twice, never inside itself.
    while let Some((path, id)) = queue.pop() {
        let Some(node) = tree.nodes.get(&id) else { continue };
        match node.as_ref() {
            Node::Folder(folder) => {
                queue.extend(names(id, folder).into_iter().map(|(name, node)| (path.join(name), node)));
                if id != ROOT {
                    entries.insert(path, ImageEntry::Folder);
                }
            }
            Node::File(file) => {
                entries.insert(path, ImageEntry::File { node: id, content: bytes(id, file) });
            }
        }
    }
    Image::new(entries)
}

/// What may persist of one file or folder: nothing first, everything second, then the states between.
#[derive(Debug, Clone)]
enum Variants {
    Names(Vec<BTreeMap<String, NodeId>>),
    Bytes(Vec<Arc<Content>>),
}

impl Variants {
    fn len(&self) -> usize {
        match self {
            Self::Names(all) => all.len(),
            Self::Bytes(all) => all.len(),
        }
    }
}

/// Enumerates crash states of one run's snapshots, and keeps what they have in common.
#[derive(Default)]
pub(super) struct Enumeration {
    // The node is kept, so that its address stays its own.
    known: HashMap<*const Node, (Arc<Node>, Arc<Variants>)>,
}

impl Enumeration {
    pub fn images(&mut self, tree: &Tree, bound: usize, seed: u64) -> Vec<Image> {
        let units: Vec<(NodeId, Arc<Variants>)> = reachable(tree)
            .into_iter()
            .filter_map(|(id, node)| Some((id, self.variants(node, seed)?)))
            .filter(|(_, variants)| variants.len() > 1)
            .collect();
        let sizes: Vec<usize> = units.iter().map(|(_, variants)| variants.len()).collect();
        let mut seen = HashSet::new();
        let mut images = Vec::new();
        for choice in choices(&sizes, bound, seed) {
            let chosen: HashMap<NodeId, (&Variants, usize)> =
                units.iter().zip(choice).map(|((id, variants), choice)| (*id, (variants.as_ref(), choice))).collect();
            let image = image(
                tree,
                |id, folder| match chosen.get(&id) {
                    Some((Variants::Names(all), index)) => all[*index].clone(),
                    _ => folder.live.clone(),
                },
                |id, file| match chosen.get(&id) {
                    Some((Variants::Bytes(all), index)) => Arc::clone(&all[*index]),
                    _ => all_of(file),
                },
            );
            if seen.insert(image.digest) {
                images.push(image);
            }
        }
        images
    }

    fn variants(&mut self, node: &Arc<Node>, seed: u64) -> Option<Arc<Variants>> {
        match node.as_ref() {
            Node::File(file) if file.pending.is_empty() => return None,
            Node::Folder(folder) if folder.pending.is_empty() => return None,
            _ => {}
        }
        let (_, variants) = self.known.entry(Arc::as_ptr(node)).or_insert_with(|| {
            let variants = match node.as_ref() {
                Node::File(file) => Variants::Bytes(bytes_variants(file, seed)),
                Node::Folder(folder) => Variants::Names(names_variants(folder)),
            };
            (Arc::clone(node), Arc::new(variants))
        });
        Some(Arc::clone(variants))
    }
}

/// What some crash state has a name for.
fn reachable(tree: &Tree) -> BTreeMap<NodeId, &Arc<Node>> {
    let mut found = BTreeMap::new();
    let mut queue = vec![ROOT];
    while let Some(id) = queue.pop() {
        let Some(node) = tree.nodes.get(&id) else { continue };
        if found.insert(id, node).is_some() {
            continue;
        }
        if let Node::Folder(folder) = node.as_ref() {
            queue.extend(folder.durable.values().chain(folder.live.values()).copied());
            queue.extend(folder.pending.iter().filter_map(super::tree::NameChange::node));
        }
    }
    found
}

fn names_variants(folder: &FolderNode) -> Vec<BTreeMap<String, NodeId>> {
    let count = folder.pending.len();
    let with = |passes: &dyn Fn(usize) -> bool| {
        let mut names = folder.durable.clone();
        folder.pending.iter().enumerate().filter(|(index, _)| passes(*index)).for_each(|(_, c)| c.apply(&mut names));
        names
    };
    let mut all = vec![folder.durable.clone(), folder.live.clone()];
    let between = (1..count).map(|end| with(&|index| index < end));
    let without = (0..count).map(|missing| with(&|index| index != missing));
    for names in between.chain(without) {
        if !all.contains(&names) {
            all.push(names);
        }
    }
    // Changes that undo each other leave one state only.
    if all[0] == all[1] {
        all.remove(1);
    }
    all
}

fn bytes_variants(file: &FileNode, seed: u64) -> Vec<Arc<Content>> {
    let count = file.pending.len();
    let everything = with(file, |_| true, None);
    let len = everything.bytes.len();
    let mut all = vec![Arc::clone(&file.durable)];
    let mut seen = HashSet::from([file.durable.digest]);
    let mut add = |content: Content| {
        if seen.insert(content.digest) {
            all.push(Arc::new(content));
        }
    };
    add(everything);
    let sample: BTreeSet<usize> = if count <= WRITES_EACH {
        (0..count).collect()
    } else {
        let random = (0..).map(|n| usize::try_from(mix(seed.wrapping_add(n)) % count as u64).unwrap_or(0));
        [0, count - 1].into_iter().chain(random.take(WRITES_EACH - 2)).collect()
    };
    for &one in &sample {
        add(with(file, |index| index < one, None));
        add(with(file, |index| index != one, None));
        // The new length persisted, the bytes did not.
        add(with(file, |index| index != one, Some(len)));
        add(with(file, |index| index == one, None));
    }
    add(with(file, |_| false, Some(len)));
    if let Some(Change::Write { offset, bytes }) = file.pending.last() {
        for kept in cuts(*offset, bytes.len()) {
            let mut torn = with(file, |index| index + 1 < count, None).bytes;
            let head = Change::Write { offset: *offset, bytes: bytes[..kept].into() };
            let _ = head.apply(&mut torn);
            let mut long = torn.clone();
            add(Content::new(torn));
            if long.len() < len {
                long.resize(len, 0);
                add(Content::new(long));
            }
        }
    }
    all
}

/// How much of a write of `len` bytes at `offset` remains when it is torn at a sector or a page: the first, a middle and the
/// last such boundary inside it.
fn cuts(offset: u64, len: usize) -> BTreeSet<usize> {
    let end = offset + len as u64;
    let mut cuts = BTreeSet::new();
    for unit in [512, 4096] {
        let first = (offset + 1).next_multiple_of(unit);
        let last = (end - u64::from(len > 0)) / unit * unit;
        let middle = (offset + len as u64 / 2) / unit * unit;
        for boundary in [first, middle, last] {
            if boundary > offset && boundary < end {
                cuts.insert(usize::try_from(boundary - offset).unwrap_or(0));
            }
        }
    }
    cuts
}

/// Combinations of one variant each of units with so many variants.
fn choices(sizes: &[usize], bound: usize, seed: u64) -> Vec<Vec<usize>> {
    let product = sizes.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    if product.is_some_and(|product| product <= bound) {
        let mut all = vec![Vec::new()];
        for size in sizes {
            all = (0..*size)
                .flat_map(|choice| all.iter().map(move |before| [before.as_slice(), &[choice]].concat()))
                .collect();
        }
        return all;
    }
    let (nothing, everything) = (vec![0; sizes.len()], vec![1; sizes.len()]);
    let changed = |base: &[usize], unit: usize, choice: usize| {
        let mut choices = base.to_vec();
        choices[unit] = choice;
        choices
    };
    let mut all = vec![nothing.clone(), everything.clone()];
    for unit in 0..sizes.len() {
        all.push(changed(&everything, unit, 0));
        all.push(changed(&nothing, unit, 1));
    }
    // Of the states between, those with all else in place are the likelier ones; then those with nothing else.
    for base in [&everything, &nothing] {
        for (unit, &size) in sizes.iter().enumerate() {
            all.extend((2..size).map(|choice| changed(base, unit, choice)));
        }
    }
    let always = 2 + 2 * sizes.len();
    // A third of the places is for combinations that nobody thought of.
    all.truncate(always.max(bound - bound / 3));
    let mut counter = seed;
    while all.len() < bound {
        all.push(
            sizes
                .iter()
                .map(|&size| {
                    counter = counter.wrapping_add(0x9E37_79B9_7F4A_7C15);
                    usize::try_from(mix(counter) % size as u64).unwrap_or(0)
                })
                .collect(),
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_products_are_exhaustive_and_large_ones_keep_the_extremes() {
        assert_eq!(choices(&[], 4, 0), [Vec::<usize>::new()]);
        let all: BTreeSet<_> = choices(&[2, 3, 2], 12, 0).into_iter().collect();
        assert_eq!(all.len(), 12);
        let sizes = [5; 8];
        let some: BTreeSet<_> = choices(&sizes, 200, 1).into_iter().collect();
        assert!(some.contains(&vec![0; 8]) && some.contains(&vec![1; 8]));
        for unit in 0..8 {
            let (mut alone, mut missing) = (vec![0; 8], vec![1; 8]);
            (alone[unit], missing[unit]) = (1, 0);
            assert!(some.contains(&alone) && some.contains(&missing));
        }
        assert!(some.len() <= 200 && some.len() > 150);
        assert_eq!(choices(&sizes, 200, 1), choices(&sizes, 200, 1), "the same from the same seed");
        assert_eq!(choices(&[2; 100], 3, 1).len(), 202, "the extremes are kept whatever the bound");
    }

    #[test]
    fn writes_tear_at_sectors_and_pages_only() {
        assert!(cuts(0, 0).is_empty() && cuts(0, 512).is_empty() && cuts(100, 300).is_empty());
        assert_eq!(cuts(0, 513).into_iter().collect::<Vec<_>>(), [512]);
        assert_eq!(cuts(500, 100).into_iter().collect::<Vec<_>>(), [12]);
        assert!(cuts(0, 10_000).iter().all(|cut| cut % 512 == 0) && cuts(0, 10_000).contains(&4096));
    }

    #[test]
    fn a_file_persists_in_every_way_the_model_knows() {
        let file = FileNode {
            durable: Arc::new(Content::new(b"old".to_vec())),
            pending: vec![
                Change::Write { offset: 0, bytes: (*b"NEW").into() },
                Change::Write { offset: 3, bytes: vec![7; 1000].into() },
            ],
            deceiving: false,
        };
        let all = bytes_variants(&file, 0);
        let has = |head: &[u8], len: usize, tail: u8| {
            all.iter().any(|content| {
                content.bytes.len() == len && content.bytes.starts_with(head) && content.bytes.last() == Some(&tail)
            })
        };
        assert_eq!(all[0].bytes, b"old");
        assert!(all[1].bytes.starts_with(b"NEW") && all[1].bytes.len() == 1003);
        assert!(has(b"NEW", 3, b'W'), "a prefix");
        assert!(has(b"old", 1003, 7), "the first write missing");
        assert!(has(b"NEW", 1003, 0), "the second as zeros");
        assert!(has(b"old", 1003, 0), "the length alone");
        assert!(has(b"NEW", 512, 7), "torn at a sector");
    }
}
