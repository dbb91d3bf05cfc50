//! Compares the file system in memory with that of this machine. The same calls must return the same results and error
//! codes.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use proptest::prelude::*;
use rustix::io::Errno;

use super::super::path::parse;
use super::*;

/// One call of a program.
#[derive(Debug, Clone)]
enum Call {
    /// Opens for writing, and writes a few bytes at the beginning.
    Write {
        path: String,
        create: bool,
        exclusive: bool,
        truncate: bool,
        bytes: Vec<u8>,
    },
    Append(String, Vec<u8>),
    SetLen(String, u64),
    Read(String),
    List(String),
    Stat(String),
    CreateDirectory(String),
    RemoveDirectory(String),
    RemoveFile(String),
    Rename(String, String),
}

/// Result of a call, in terms that both sides share.
type CallResult = std::result::Result<String, &'static str>;

fn error_name(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NoEntry => "no entry",
        ErrorCode::Exist => "exists",
        ErrorCode::NotDirectory => "not a directory",
        ErrorCode::IsDirectory => "is a directory",
        ErrorCode::NotEmpty => "not empty",
        ErrorCode::Invalid => "invalid",
        ErrorCode::Busy => "busy",
        ErrorCode::NameTooLong => "too long",
        other => panic!("{other:?} is not expected here"),
    }
}

fn errno_name(error: &std::io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => "no entry",
        Some(Errno::EXIST) => "exists",
        Some(Errno::NOTDIR) => "not a directory",
        Some(Errno::ISDIR) => "is a directory",
        Some(Errno::NOTEMPTY) => "not empty",
        Some(Errno::INVAL) => "invalid",
        Some(Errno::BUSY) => "busy",
        Some(Errno::NAMETOOLONG) => "too long",
        other => panic!("{other:?} is not expected here"),
    }
}

fn open(root: &Arc<MemoryDirectory>, path: &str, options: OpenOptions) -> Result<Arc<MemoryFile>> {
    match root.open(&parse(path)?, options)? {
        MemoryNode::File(file) => Ok(file),
        MemoryNode::Directory(_) => Err(ErrorCode::IsDirectory),
    }
}

fn run_in_memory(root: &Arc<MemoryDirectory>, call: &Call) -> Result<String> {
    let discard = |()| String::new();
    match call {
        Call::Write { path, create, exclusive, truncate, bytes } => {
            let options = OpenOptions {
                create: *create,
                exclusive: *exclusive,
                truncate: *truncate,
                write: true,
                directory: false,
            };
            open(root, path, options)?.write(0, bytes).map(discard)
        }
        Call::Append(path, bytes) => {
            open(root, path, OpenOptions { write: true, ..OpenOptions::default() })?.append(bytes).map(discard)
        }
        Call::SetLen(path, length) => {
            open(root, path, OpenOptions { write: true, ..OpenOptions::default() })?.set_len(*length).map(discard)
        }
        Call::Read(path) => Ok(format!("{:?}", open(root, path, OpenOptions::default())?.read(0, usize::MAX))),
        Call::List(path) => {
            let found = root.open(&parse(path)?, OpenOptions { directory: true, ..OpenOptions::default() })?;
            let directory = found.directory()?;
            let mut names = Vec::new();
            while let Some((name, node)) =
                directory.next_entry(names.last().map(|(name, _): &(String, bool)| name.as_str()))
            {
                names.push((name, node.is_directory()));
            }
            Ok(format!("{names:?}"))
        }
        Call::Stat(path) => {
            let node = root.find(&parse(path)?)?;
            Ok(format!("{} {}", node.is_directory(), node.len()))
        }
        Call::CreateDirectory(path) => root.create_directory(&parse(path)?).map(discard),
        Call::RemoveDirectory(path) => root.remove_directory(&parse(path)?).map(discard),
        Call::RemoveFile(path) => root.remove_file(&parse(path)?).map(discard),
        Call::Rename(from, to) => root.rename(&parse(from)?, root, &parse(to)?).map(discard),
    }
}

fn run_on_os(root: &str, call: &Call) -> std::io::Result<String> {
    let full_path = |path: &str| format!("{root}/{path}");
    let discard = |()| String::new();
    let mut options = std::fs::OpenOptions::new();
    match call {
        Call::Write { path, create, exclusive, truncate, bytes } => {
            // Not with the standard library's flags, because it does not support exclusive creation with truncation.
            let mut flags = rustix::fs::OFlags::empty();
            flags.set(rustix::fs::OFlags::CREATE, *create);
            flags.set(rustix::fs::OFlags::EXCL, *create && *exclusive);
            flags.set(rustix::fs::OFlags::TRUNC, *truncate);
            options
                .write(true)
                .custom_flags(flags.bits().cast_signed())
                .open(full_path(path))?
                .write_all(bytes)
                .map(discard)
        }
        Call::Append(path, bytes) => options.append(true).open(full_path(path))?.write_all(bytes).map(discard),
        Call::SetLen(path, length) => options.write(true).open(full_path(path))?.set_len(*length).map(discard),
        Call::Read(path) => {
            let mut bytes = Vec::new();
            options.read(true).open(full_path(path))?.read_to_end(&mut bytes)?;
            Ok(format!("{bytes:?}"))
        }
        Call::List(path) => {
            let entries = std::fs::read_dir(full_path(path))?.map(|entry| entry.unwrap());
            let mut names: Vec<_> = entries
                .map(|entry| (entry.file_name().into_string().unwrap(), entry.file_type().unwrap().is_dir()))
                .collect();
            names.sort();
            Ok(format!("{names:?}"))
        }
        Call::Stat(path) => {
            let metadata = std::fs::metadata(full_path(path))?;
            Ok(format!("{} {}", metadata.is_dir(), if metadata.is_dir() { 0 } else { metadata.len() }))
        }
        Call::CreateDirectory(path) => std::fs::create_dir(full_path(path)).map(discard),
        Call::RemoveDirectory(path) => std::fs::remove_dir(full_path(path)).map(discard),
        Call::RemoveFile(path) => std::fs::remove_file(full_path(path)).map(discard),
        Call::Rename(from, to) => std::fs::rename(full_path(from), full_path(to)).map(discard),
    }
}

/// Paths from so few names that calls affect the same nodes.
fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![4 => Just("a"), 4 => Just("b"), 2 => Just("c"), 1 => Just("."), 1 => Just("..")];
    (proptest::collection::vec(name, 1..4), any::<bool>(), 0..6_u8).prop_filter_map(
        "leads out",
        |(names, double, end)| {
            let path = names.join(if double { "//" } else { "/" });
            let path = if end == 0 { format!("{path}/") } else { path };
            parse(&path).is_ok().then_some(path)
        },
    )
}

fn call() -> impl Strategy<Value = Call> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..4);
    let write = (path(), any::<[bool; 3]>(), bytes()).prop_map(|(path, [create, exclusive, truncate], bytes)| {
        Call::Write { path, create, exclusive, truncate, bytes }
    });
    prop_oneof![
        4 => write,
        1 => (path(), bytes()).prop_map(|(path, bytes)| Call::Append(path, bytes)),
        1 => (path(), 0..9_u64).prop_map(|(path, length)| Call::SetLen(path, length)),
        1 => path().prop_map(Call::Read),
        2 => path().prop_map(Call::List),
        1 => path().prop_map(Call::Stat),
        4 => path().prop_map(Call::CreateDirectory),
        1 => path().prop_map(Call::RemoveDirectory),
        1 => path().prop_map(Call::RemoveFile),
        4 => (path(), path()).prop_map(|(from, to)| Call::Rename(from, to)),
    ]
}

fn root() -> (Arc<MemoryDirectory>, Arc<ScratchQuota>) {
    let quota = ScratchQuota::new(1 << 20, 1_000, |_| {});
    (MemoryDirectory::root(&quota).unwrap(), quota)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn memory_behaves_like_the_file_system_of_the_os(calls in proptest::collection::vec(call(), 1..30)) {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().to_str().unwrap();
        let (root, quota) = root();
        for call in &calls {
            let actual: CallResult = run_in_memory(&root, call).map_err(error_name);
            let expected: CallResult = run_on_os(base, call).map_err(|error| errno_name(&error));
            prop_assert_eq!(&actual, &expected, "{:?}", call);
        }
        drop(root);
        prop_assert_eq!(quota.used(), (0, 0), "everything is given back");
    }
}

#[test]
fn an_open_file_outlives_its_name_and_keeps_its_room() {
    let (root, quota) = root();
    let file = open(&root, "a", OpenOptions { create: true, write: true, ..OpenOptions::default() }).unwrap();
    file.write(0, b"content").unwrap();
    root.remove_file(&parse("a").unwrap()).unwrap();
    assert_eq!((file.read(0, 100), quota.used()), (b"content".to_vec(), (7, 2)));
    drop(file);
    assert_eq!(quota.used(), (0, 1));
}

#[test]
fn nothing_can_be_put_into_a_directory_that_was_removed() {
    let (root, _) = root();
    root.create_directory(&parse("a").unwrap()).unwrap();
    let Ok(MemoryNode::Directory(open)) = root.find(&parse("a").unwrap()) else { panic!("a directory") };
    root.remove_directory(&parse("a").unwrap()).unwrap();
    assert_eq!(open.create_directory(&parse("b").unwrap()), Err(ErrorCode::NoEntry));
    assert_eq!(open.parent().map(|parent| parent.inode), None);
}

#[test]
fn the_depth_of_directories_is_limited_for_create_and_rename() {
    let (root, _) = root();
    let mut deepest = Arc::clone(&root);
    let a = parse("a").unwrap();
    for _ in 0..MAX_DEPTH {
        deepest.create_directory(&a).unwrap();
        deepest = deepest.find(&a).unwrap().directory().unwrap();
    }
    assert_eq!(deepest.create_directory(&a), Err(ErrorCode::NameTooLong));
    root.create_directory(&parse("b").unwrap()).unwrap();
    assert_eq!(root.rename(&parse("b").unwrap(), &deepest, &a), Err(ErrorCode::NameTooLong));
}

#[test]
fn the_number_of_files_is_limited() {
    let quota = ScratchQuota::new(1 << 20, 2, |_| {});
    let root = MemoryDirectory::root(&quota).unwrap();
    let create =
        |name| open(&root, name, OpenOptions { create: true, write: true, ..OpenOptions::default() }).map(drop);
    assert_eq!((create("a"), create("b"), create("c")), (Ok(()), Ok(()), Err(ErrorCode::Quota)));
    root.remove_file(&parse("a").unwrap()).unwrap();
    assert_eq!(create("c"), Ok(()));
}
