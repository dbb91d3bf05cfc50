use std::io::repeat;

use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;

#[test]
fn the_same_files_give_the_same_bytes() {
    let files = BTreeMap::from([("b".to_owned(), b"2".to_vec()), ("a".to_owned(), b"1".to_vec())]);
    let bytes = pack(&files).expect("packed");
    assert_eq!(bytes, pack(&files).expect("packed"));
    assert_eq!(unpack(&bytes).expect("unpacked"), files.into_iter().collect());
}

fn gzip(mut content: impl Read) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    io::copy(&mut content, &mut gzip).expect("written");
    gzip.finish().expect("finished")
}

/// A gzipped archive of one entry whose content is already gzipped.
fn bomb(kind: EntryType, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path("a").expect("a name");
    header.set_size(size);
    header.set_cksum();
    [&gzip(header.as_bytes().as_slice()), content].concat()
}

/// Peak memory of this process, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Entries of every kind, even of those that no bundle needs. No more than the size of a bundle is read or held in
/// memory.
#[test]
fn an_entry_of_any_kind_costs_no_more_than_a_bundle() {
    const SIZE: u64 = 300 << 20;
    let zeros = gzip(repeat(0).take(SIZE));
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::Regular,
        EntryType::Continuous,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Fifo,
        EntryType::Char,
        EntryType::GNUSparse,
        EntryType::new(b'?'),
    ] {
        let bomb = bomb(kind, SIZE, &zeros);
        let before = peak_memory();
        let error = unpack(&bomb).expect_err("refused");
        let grown = peak_memory().saturating_sub(before);
        assert!(grown < 2 * MAX_BUNDLE_SIZE, "{kind:?}: {grown} bytes");
        let expected = matches!(error, Error::TooLarge(_)) || kind == EntryType::GNUSparse;
        assert!(expected, "{kind:?}: {error}");
    }
}

/// An archive with a file that has several names.
fn archive_with_names(names: &[(EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let mut append = |kind: EntryType, content: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path("short").expect("a name");
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).expect("appended");
    };
    for (kind, name) in names {
        append(*kind, name);
    }
    append(EntryType::Regular, b"content");
    append(EntryType::Regular, b"other");
    builder.into_inner().expect("finished")
}

#[test]
fn long_names_hold_for_the_next_file_alone() {
    let long = "n".repeat(300);
    let pax = format!("{} path={long}\n", 300 + 10);
    for names in [
        vec![(EntryType::GNULongName, format!("{long}\0"))],
        vec![(EntryType::XHeader, pax.clone())],
        vec![(EntryType::GNULongLink, "elsewhere\0".to_owned()), (EntryType::GNULongName, long.clone())],
        vec![(EntryType::XGlobalHeader, "11 path=no\n".to_owned()), (EntryType::XHeader, pax)],
    ] {
        let names: Vec<_> = names.iter().map(|(kind, name)| (*kind, name.as_bytes())).collect();
        let files = unpack(&archive_with_names(&names)).expect("unpacked");
        let expected = [(long.clone(), b"content".to_vec()), ("short".to_owned(), b"other".to_vec())];
        assert_eq!(files, expected.into(), "{names:?}");
    }
}

#[test]
fn ambiguous_archives_are_rejected() {
    for (kind, records) in [
        (EntryType::XHeader, "9 size=1\n"),
        (EntryType::XHeader, "22 GNU.sparse.major=1\n"),
        (EntryType::GNUSparse, ""),
    ] {
        let error = unpack(&archive_with_names(&[(kind, records.as_bytes())])).expect_err(records);
        assert!(!error.to_string().is_empty());
    }
    let many = archive_with_names(&[(EntryType::GNULongName, &vec![b'a'; 1 + (64 << 10)])]);
    assert!(matches!(unpack(&many), Err(Error::TooLarge(_))));
}

#[test]
fn an_archive_of_several_members_is_read_to_its_end() {
    let files: BTreeMap<_, _> = (0..20).map(|number| (format!("{number:02}"), vec![number; 1_000])).collect();
    let mut tar = Vec::new();
    GzipMembers::detect(&pack(&files).expect("packed")).expect("gzip").read_to_end(&mut tar).expect("unpacked");
    let members: Vec<u8> = tar.chunks(700).flat_map(gzip).collect();
    assert_eq!(unpack(&members).expect("unpacked"), files.into_iter().collect());
    // Also if it is truncated after the last file.
    assert!(unpack(members.get(..members.len() - 1).expect("a part")).is_err());
}

proptest! {
    /// No bytes cause a panic, and no header makes the reader hold more bytes than the archive has.
    #[test]
    fn any_bytes_are_unpacked_or_refused(
        kinds in proptest::collection::vec(any::<u8>(), 1..6),
        sizes in proptest::collection::vec(prop_oneof![0_u64..2_000, any::<u64>()], 6),
        content in proptest::collection::vec(any::<u8>(), 0..3_000),
    ) {
        let mut bytes = Vec::new();
        for (kind, size) in kinds.iter().zip(&sizes) {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::new(*kind));
            header.set_path("a").expect("a name");
            header.set_size(*size);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        if let Ok(files) = unpack(&bytes) {
            let kept: usize = files.values().map(Vec::len).sum();
            prop_assert!(kept <= bytes.len());
        }
    }
}
