//! Shards that build on others: whatever changes in between, each gives back the state that it was written of, or is refused.

use super::*;

/// Where the shard of checkpoint `id` lies.
fn path_of(id: u64) -> PathBuf {
    Path::new("/job/000002").join(CheckpointId(id).folder()).join(file())
}

fn write_in(
    medium: &dyn Medium,
    id: u64,
    fields: &Fields,
    chunk: usize,
    lineage: Lineage,
    maps: &[Option<Vec<u64>>],
) -> ShardSummary {
    let grains: Vec<Grain> = fields.iter().map(|field| field.3).collect();
    let identity = ShardIdentity { id: CheckpointId(id), ..identity() };
    let (options, outline) = (options(chunk, Compression::Auto), outline_of(fields));
    let mut writer =
        ShardWriter::create_in(medium, &ShardPlace::own(path_of(id)), &identity, &outline, &grains, &options, lineage)
            .unwrap();
    let pieces: Vec<_> = fields
        .iter()
        .enumerate()
        .map(|(field, (_, _, bytes, _))| {
            let changed = maps.get(field).and_then(|map| map.as_deref());
            Piece { field, offset: 0, bytes, changed }
        })
        .collect();
    writer.write(&POOL, &pieces).unwrap();
    writer.finish().unwrap()
}

fn on(base: &Option<Arc<Base>>) -> Lineage {
    Lineage { base: base.clone(), digests: Digests::All }
}

/// The fields that the shard of checkpoint `id` gives.
fn read(medium: &dyn Medium, id: u64) -> Result<Vec<Vec<u8>>, ShardError> {
    let reader = ShardReader::open(medium, &path_of(id))?;
    let broken = reader.verify(&POOL, &|_| {})?;
    let fields: Result<Vec<_>, _> =
        (0..reader.outline().fields.len()).map(|field| reader.read_field(&POOL, field)).collect();
    assert_eq!(broken.is_empty(), fields.is_ok(), "{broken:?}");
    fields
}

fn contents(fields: &Fields) -> Vec<Vec<u8>> {
    fields.iter().map(|field| field.2.clone()).collect()
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A smooth field, a noisy one, and one that is short.
fn three(pages: usize) -> Fields {
    let eight = Grain { stride: 8, lane: 8 };
    let mut state = 1;
    vec![
        (
            "smooth",
            FieldClass::Array,
            (0..pages * 512).flat_map(|i| (i as f64 * 0.125 + (i * i % 97) as f64).to_le_bytes()).collect(),
            eight,
        ),
        ("noise", FieldClass::Array, (0..pages * 512).flat_map(|_| random(&mut state).to_le_bytes()).collect(), eight),
        ("time", FieldClass::Value, vec![7; 9], Grain::BYTES),
    ]
}

#[test]
fn what_did_not_change_is_not_stored_again() {
    let medium = Memory::default();
    let mut fields = three(100);
    let first = write_in(&medium, 1, &fields, 64 << 10, on(&None), &[]);
    assert_eq!(ShardReader::open(&medium, &path_of(1)).unwrap().parents(), []);
    // A byte in one page of each of the two arrays, one of them the last.
    fields[0].2[5000] ^= 1;
    *fields[1].2.last_mut().unwrap() ^= 1;
    let second = write_in(&medium, 2, &fields, 64 << 10, on(&first.base), &[]);
    assert_eq!((second.codecs.unchanged, second.codecs.patches), (2 * 7 + 1 - 2, 2), "{:?}", second.codecs);
    assert!(second.stored_bytes < 9000, "{}", second.stored_bytes);
    assert!((second.changed_share.unwrap() - 2.0 / 201.0).abs() < 1e-9);
    let base = second.base.clone().unwrap();
    assert_eq!((base.depth(), base.full_bytes(), base.chain_bytes()), (2, first.bytes, second.bytes));
    let third = write_in(&medium, 3, &fields, 64 << 10, on(&second.base), &[]);
    assert_eq!((third.stored_bytes, third.codecs.unchanged), (0, 15));
    for id in [2, 3] {
        assert!(read(&medium, id).unwrap() == contents(&fields), "{id}");
    }
    let ids =
        |id| ShardReader::open(&medium, &path_of(id)).unwrap().parents().iter().map(|p| p.id.0).collect::<Vec<_>>();
    assert_eq!((ids(2), ids(3)), (vec![1], vec![1, 2]));
    // All of a chunk: no patch. And what no longer refers to it does not name it.
    fields[0].2.iter_mut().for_each(|byte| *byte ^= 0x55);
    fields[1].2.iter_mut().for_each(|byte| *byte ^= 0x55);
    let fourth = write_in(&medium, 4, &fields, 64 << 10, on(&third.base), &[]);
    assert_eq!((fourth.codecs.unchanged, fourth.codecs.patches), (1, 0));
    assert_eq!(ids(4), [1]);
    assert!(read(&medium, 4).unwrap() == contents(&fields));
}

#[test]
fn another_array_builds_on_nothing() {
    let medium = Memory::default();
    let mut fields = three(30);
    let first = write_in(&medium, 1, &fields, 64 << 10, on(&None), &[]);
    fields[0].2.truncate(8 * 512 * 29);
    fields[1].0 = "another";
    let second = write_in(&medium, 2, &fields, 64 << 10, on(&first.base), &[]);
    assert_eq!(second.codecs.unchanged, 1, "the value alone");
    assert!(read(&medium, 2).unwrap() == contents(&fields));
    // Of other chunks, another rank, another attempt: as good as none.
    let third = write_in(&medium, 3, &fields, 4096, on(&second.base), &[]);
    assert_eq!(third.changed_share, None);
    assert_eq!(ShardReader::open(&medium, &path_of(3)).unwrap().parents(), []);
}

#[test]
fn a_parent_that_is_missing_or_another_is_noticed() {
    let medium = Memory::default();
    let mut fields = three(30);
    let first = write_in(&medium, 1, &fields, 64 << 10, on(&None), &[]);
    fields[1].2[0] ^= 1;
    write_in(&medium, 2, &fields, 64 << 10, on(&first.base), &[]);
    let parent = medium.bytes(&path_of(1));
    // Of the same state, but another time.
    let other = Memory::default();
    fields[0].2[8] ^= 1;
    write_in(&other, 1, &fields, 64 << 10, on(&None), &[]);
    let put = |bytes: Option<Vec<u8>>| {
        medium.files.lock().unwrap().remove(&path_of(1));
        if let Some(bytes) = bytes {
            medium.files.lock().unwrap().insert(path_of(1), Arc::new(Mutex::new(bytes)));
        }
    };
    for bytes in [None, Some(Vec::new()), Some(parent[..parent.len() - 1].to_vec()), Some(medium.bytes(&path_of(2)))] {
        put(bytes);
        let error = ShardReader::open(&medium, &path_of(2)).unwrap_err();
        assert!(error.is_damage() && error.to_string().contains("000001"), "{error}");
    }
    put(Some(other.bytes(&path_of(1))));
    assert!(read(&medium, 2).is_err());
    put(Some(parent));
    assert!(read(&medium, 2).is_ok());
}

#[test]
fn a_flip_of_any_byte_of_a_chain_is_noticed_or_harmless() {
    let medium = Memory::default();
    let mut fields = three(3);
    let mut base = None;
    for id in 1..=3 {
        base = write_in(&medium, id, &fields, 4096 * 2, on(&base), &[]).base;
        for (number, field) in fields.iter_mut().enumerate() {
            field.2[id as usize * 3 * (number + 1) % 9] ^= 0x10;
        }
    }
    let whole = read(&medium, 3).unwrap();
    for id in 1..=3 {
        let sound = medium.bytes(&path_of(id));
        let step = if id == 3 { 1 } else { 37 };
        for at in (0..sound.len()).step_by(step) {
            medium.files.lock().unwrap()[&path_of(id)].lock().unwrap()[at] ^= 0x04;
            match read(&medium, 3) {
                Ok(fields) => {
                    // What nothing refers to any more, or what only the parent itself needs.
                    assert!(id < 3, "byte {at}");
                    assert!(fields == whole, "shard {id}, byte {at}");
                }
                Err(error) => assert!(error.is_damage(), "{error}"),
            }
            medium.files.lock().unwrap()[&path_of(id)].lock().unwrap()[at] ^= 0x04;
        }
    }
}

proptest! {
    #[test]
    fn every_shard_of_a_chain_gives_its_own_state(
        seed in 1u64..,
        pages in 1usize..40,
        chunk_pages in prop_oneof![Just(0usize), 1usize..20],
        steps in prop::collection::vec((0u64..100, any::<bool>(), any::<bool>(), 0u8..3), 1..8),
    ) {
        let medium = Memory::default();
        let mut state = seed;
        let mut fields = three(pages);
        // 0: chunks that are not whole pages.
        let chunk = if chunk_pages == 0 { 1536 } else { chunk_pages * 4096 };
        let mut base: Option<Arc<Base>> = None;
        // Pages that changed since the base.
        let mut since: Vec<Vec<u64>> = vec![vec![0; pages.div_ceil(64)]; 2];
        let mut states = Vec::new();
        for (id, (share, committed, told, digests)) in (1..).zip(steps) {
            for (field, since) in since.iter_mut().enumerate() {
                for page in 0..pages {
                    if random(&mut state) % 100 < share {
                        let at = page * 4096 + (random(&mut state) % 4096) as usize;
                        fields[field].2[at] = random(&mut state) as u8;
                        since[page / 64] |= 1 << (page % 64);
                    }
                }
            }
            fields[2].2[0] = random(&mut state) as u8;
            let maps: Vec<Option<Vec<u64>>> =
                if told && base.is_some() { since.iter().cloned().map(Some).collect() } else { Vec::new() };
            let digests = [Digests::All, Digests::Sampled, Digests::None][usize::from(digests)];
            let summary =
                write_in(&medium, id, &fields, chunk, Lineage { base: base.clone(), digests }, &maps);
            if committed {
                base = summary.base;
                since.iter_mut().for_each(|since| since.fill(0));
            }
            states.push((id, contents(&fields)));
        }
        for (id, expected) in states {
            prop_assert!(read(&medium, id).unwrap() == expected, "checkpoint {}", id);
        }
    }
}

/// Chains of version 2 are read for ever: this one was made when the format was settled.
#[test]
fn the_chain_of_version_2_is_still_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chain-v2");
    let path = |id: u64| root.join(CheckpointId(id).folder()).join(file());
    let mut fields = three(9);
    let mut states = Vec::new();
    let medium = Memory::default();
    let mut base = None;
    for id in 1..=3 {
        base = write_in(&medium, id, &fields, 4096 * 4, on(&base), &[]).base;
        states.push(contents(&fields));
        fields[0].2[id as usize * 5000] ^= 1;
        fields[1].2[id as usize * 3] ^= 1;
    }
    if std::env::var_os("PITON_WRITE_GOLDEN").is_some() {
        for id in 1..=3 {
            std::fs::create_dir_all(path(id).parent().unwrap()).unwrap();
            std::fs::write(path(id), medium.bytes(&path_of(id))).unwrap();
        }
    }
    for (id, expected) in (1..).zip(states) {
        let reader = ShardReader::open(&RealMedium::default(), &path(id)).unwrap();
        assert_eq!(reader.verify(&POOL, &|_| {}).unwrap(), []);
        for (field, bytes) in expected.iter().enumerate() {
            assert!(reader.read_field(&POOL, field).unwrap() == *bytes, "checkpoint {id}, field {field}");
        }
    }
    let newest = ShardReader::open(&RealMedium::default(), &path(3)).unwrap();
    assert_eq!(newest.parents().iter().map(|parent| parent.id.0).collect::<Vec<_>>(), [1, 2]);
    let patches = newest.chunks().filter(|record| record.patched > 0).count();
    let shared = newest.chunks().filter(|record| record.parent > 0).count();
    assert!(patches > 1 && shared > patches, "{patches} patches, {shared} shared");
}

/// Notes what it is shown of one field.
#[derive(Debug)]
struct Seen {
    field: usize,
    places: Mutex<Vec<(u64, usize)>>,
}

impl Inspect for Seen {
    fn wants(&self, field: usize) -> bool {
        field == self.field
    }

    fn look(&self, field: usize, offset: u64, bytes: &[u8]) {
        assert_eq!(field, self.field);
        self.places.lock().unwrap().push((offset, bytes.len()));
    }
}

#[test]
fn who_inspects_sees_each_chunk_of_its_field_that_is_not_as_it_was() {
    let (medium, chunk) = (Memory::default(), 4 << 10);
    let mut fields = every_kind(1);
    let mut base = None;
    let field = 0;
    let total = 5000 * fields[field].3.stride;
    fields[field].2 = (0..total).map(|byte| (byte as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let all: Vec<(u64, usize)> =
        (0..total).step_by(chunk).map(|offset| (offset as u64, chunk.min(total - offset))).collect();
    assert!(all.len() > 2);
    for (id, expected) in [(1, all.clone()), (2, all[1..2].to_vec())] {
        let grains: Vec<Grain> = fields.iter().map(|field| field.3).collect();
        let identity = ShardIdentity { id: CheckpointId(id), ..identity() };
        let (options, outline, place) =
            (options(chunk, Compression::Auto), outline_of(&fields), ShardPlace::own(path_of(id)));
        let mut writer =
            ShardWriter::create_in(&medium, &place, &identity, &outline, &grains, &options, on(&base)).unwrap();
        let seen = Arc::new(Seen { field, places: Mutex::default() });
        writer.inspect_with(seen.clone());
        let pieces: Vec<_> = fields
            .iter()
            .enumerate()
            .map(|(field, (_, _, bytes, _))| Piece { field, offset: 0, bytes, changed: None })
            .collect();
        writer.write(&POOL, &pieces).unwrap();
        base = writer.finish().unwrap().base;
        let mut places = std::mem::take(&mut *seen.places.lock().unwrap());
        places.sort_unstable();
        assert_eq!(places, expected);
        fields[field].2[chunk + 5] ^= 1;
    }
}
