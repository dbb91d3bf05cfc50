//! The one place where a guest's path is taken apart. Everything else works with the names that come out of it.

/// Bytes of the longest path.
pub const LONGEST_PATH: usize = 4 << 10;
/// Bytes of the longest name (`NAME_MAX` of POSIX systems).
pub const LONGEST_NAME: usize = 255;
/// Directories that may be nested in each other, and names in one path.
pub const DEEPEST: usize = 32;

/// One step of a walk through directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// To the child with this name, which is neither empty nor `.` nor `..`, and holds neither `/` nor NUL.
    Down(&'a str),
    /// Back to the directory that the walk came from; never from the one where it began.
    Up,
}

/// A path below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<'a> {
    steps: Vec<Step<'a>>,
    end: End,
    /// It ends with a slash, `.` or `..`: only a directory can be meant.
    pub names_directory: bool,
}

/// What the last part of a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Name,
    Dot,
    Dots,
}

/// What the last part of a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last<'a> {
    /// A child of the directory that the other steps lead to.
    Child(&'a str),
    /// The directory that the walk is in: `.`, `a/.`.
    Here,
    /// The one that it came from: `a/..`.
    Above,
}

/// Why a path is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It is empty.
    #[error("the path is empty")]
    Empty,
    /// It begins with a slash.
    #[error("the path is absolute")]
    Absolute,
    /// It leads out of the directory that it begins in.
    #[error("the path leads out of its directory")]
    Escapes,
    /// It, or a name in it, is too long, or has too many names.
    #[error(
        "the path is longer than {LONGEST_PATH} bytes, has a name of more than {LONGEST_NAME} bytes or more than {DEEPEST} names"
    )]
    TooLong,
    /// It holds NUL.
    #[error("the path holds NUL")]
    Nul,
}

/// Takes a path apart. Nothing is looked up: whether `a/..` is a directory depends on `a` being one.
///
/// # Errors
/// [`PathError`]; above all for whatever would leave the directory that the path begins in.
pub fn resolve(path: &str) -> Result<Path<'_>, PathError> {
    match path {
        "" => return Err(PathError::Empty),
        path if path.len() > LONGEST_PATH => return Err(PathError::TooLong),
        path if path.contains('\0') => return Err(PathError::Nul),
        path if path.starts_with('/') => return Err(PathError::Absolute),
        _ => {}
    }
    let mut steps = Vec::new();
    let mut depth = 0_usize;
    let mut end = End::Dot;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        end = match part {
            "." => End::Dot,
            ".." => End::Dots,
            _ => End::Name,
        };
        match part {
            "." => {}
            ".." => {
                depth = depth.checked_sub(1).ok_or(PathError::Escapes)?;
                steps.push(Step::Up);
            }
            name => {
                depth += 1;
                steps.push(Step::Down(name));
                if name.len() > LONGEST_NAME || depth > DEEPEST {
                    return Err(PathError::TooLong);
                }
            }
        }
    }
    Ok(Path { steps, end, names_directory: end != End::Name || path.ends_with('/') })
}

impl<'a> Path<'a> {
    /// All steps, in order.
    pub fn steps(&self) -> &[Step<'a>] {
        &self.steps
    }

    /// The steps to the directory of what the path names, and what that is.
    pub fn split(&self) -> (&[Step<'a>], Last<'a>) {
        match (self.end, self.steps.split_last()) {
            (End::Name, Some((Step::Down(name), before))) => (before, Last::Child(name)),
            (End::Dots, _) => (&self.steps, Last::Above),
            _ => (&self.steps, Last::Here),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_no_path_is() {
        let table = [
            ("", PathError::Empty),
            ("/etc/passwd", PathError::Absolute),
            ("//", PathError::Absolute),
            ("..", PathError::Escapes),
            ("a/../..", PathError::Escapes),
            ("./../a", PathError::Escapes),
            ("a/b/../../../c", PathError::Escapes),
            ("a\0b", PathError::Nul),
        ];
        for (path, error) in table {
            assert_eq!(resolve(path), Err(error), "{path:?}");
        }
        assert_eq!(resolve(&"x".repeat(256)), Err(PathError::TooLong));
        assert_eq!(resolve(&"a/".repeat(33)), Err(PathError::TooLong));
        assert_eq!(resolve(&"a/../".repeat(1_000)), Err(PathError::TooLong));
        assert!(resolve(&"😀".repeat(63)).is_ok());
    }

    #[test]
    fn what_a_path_names() {
        let name = |path| resolve(path).map(|path| (path.split().1, path.names_directory));
        assert_eq!(name("a/b"), Ok((Last::Child("b"), false)));
        assert_eq!(name("a//b/"), Ok((Last::Child("b"), true)));
        assert_eq!(name("a/."), Ok((Last::Here, true)));
        assert_eq!(name("a/.//"), Ok((Last::Here, true)));
        assert_eq!(name("."), Ok((Last::Here, true)));
        assert_eq!(name("a/.."), Ok((Last::Above, true)));
        assert_eq!(name("..."), Ok((Last::Child("..."), false)));
        assert_eq!(name(r"..\..\a"), Ok((Last::Child(r"..\..\a"), false)), "a backslash separates nothing");
    }

    proptest! {
        /// The walk never leaves the directory that it began in, and goes only through names that are names.
        #[test]
        fn no_path_escapes(path in "(\\.|\\.\\.|/|a|\\\\|\u{0}|\u{202e}|😀|[a-z]){0,40}|\\PC{0,60}") {
            let Ok(path) = resolve(&path) else { return Ok(()) };
            let mut depth = 0_i64;
            for step in path.steps() {
                match step {
                    Step::Up => depth -= 1,
                    Step::Down(name) => {
                        depth += 1;
                        prop_assert!(!matches!(*name, "" | "." | ".."));
                        prop_assert!(!name.contains(['/', '\0']) && name.len() <= LONGEST_NAME);
                    }
                }
                prop_assert!((0..=DEEPEST as i64).contains(&depth));
            }
            if let (before, Last::Child(name)) = path.split() {
                prop_assert_eq!(path.steps().last(), Some(&Step::Down(name)));
                prop_assert_eq!(before.len() + 1, path.steps().len());
            }
        }
    }
}
