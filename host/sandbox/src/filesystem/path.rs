//! The one place where a guest's path is taken apart. Everything else works with the names that come out of it.

/// Bytes of the longest path.
pub const MAX_PATH_LENGTH: usize = 4 << 10;
/// Bytes of the longest name (`NAME_MAX` of POSIX systems).
pub const MAX_NAME_LENGTH: usize = 255;
/// Directories that may be nested in each other, and names in one path.
pub const MAX_DEPTH: usize = 32;

/// One step of a walk through directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathStep<'a> {
    /// To the child with this name, which is neither empty nor `.` nor `..`, and holds neither `/` nor NUL.
    Child(&'a str),
    /// Back to the directory that the walk came from; never from the one where it began.
    Parent,
}

/// A path below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPath<'a> {
    steps: Vec<PathStep<'a>>,
    last_component: LastComponent,
    /// It ends with a slash, `.` or `..`: only a directory can be meant.
    pub is_directory_path: bool,
}

/// What the last part of a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastComponent {
    Name,
    Dot,
    DotDot,
}

/// What the last part of a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathTarget<'a> {
    /// A child of the directory that the other steps lead to.
    Child(&'a str),
    /// The directory that the walk is in: `.`, `a/.`.
    Current,
    /// The one that it came from: `a/..`.
    Parent,
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
        "the path is longer than {MAX_PATH_LENGTH} bytes, has a name of more than {MAX_NAME_LENGTH} bytes or more than {MAX_DEPTH} names"
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
pub fn parse(path: &str) -> Result<GuestPath<'_>, PathError> {
    match path {
        "" => return Err(PathError::Empty),
        path if path.len() > MAX_PATH_LENGTH => return Err(PathError::TooLong),
        path if path.contains('\0') => return Err(PathError::Nul),
        path if path.starts_with('/') => return Err(PathError::Absolute),
        _ => {}
    }
    let mut steps = Vec::new();
    let mut depth = 0_usize;
    let mut end = LastComponent::Dot;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        end = match part {
            "." => LastComponent::Dot,
            ".." => LastComponent::DotDot,
            _ => LastComponent::Name,
        };
        match part {
            "." => {}
            ".." => {
                depth = depth.checked_sub(1).ok_or(PathError::Escapes)?;
                steps.push(PathStep::Parent);
            }
            name => {
                depth += 1;
                steps.push(PathStep::Child(name));
                if name.len() > MAX_NAME_LENGTH || depth > MAX_DEPTH {
                    return Err(PathError::TooLong);
                }
            }
        }
    }
    Ok(GuestPath { steps, last_component: end, is_directory_path: end != LastComponent::Name || path.ends_with('/') })
}

impl<'a> GuestPath<'a> {
    /// All steps, in order.
    pub fn steps(&self) -> &[PathStep<'a>] {
        &self.steps
    }

    /// The steps to the directory of what the path names, and what that is.
    pub fn split_target(&self) -> (&[PathStep<'a>], PathTarget<'a>) {
        match (self.last_component, self.steps.split_last()) {
            (LastComponent::Name, Some((PathStep::Child(name), before))) => (before, PathTarget::Child(name)),
            (LastComponent::DotDot, _) => (&self.steps, PathTarget::Parent),
            _ => (&self.steps, PathTarget::Current),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn invalid_paths_are_rejected() {
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
            assert_eq!(parse(path), Err(error), "{path:?}");
        }
        assert_eq!(parse(&"x".repeat(256)), Err(PathError::TooLong));
        assert_eq!(parse(&"a/".repeat(33)), Err(PathError::TooLong));
        assert_eq!(parse(&"a/../".repeat(1_000)), Err(PathError::TooLong));
        assert!(parse(&"😀".repeat(63)).is_ok());
    }

    #[test]
    fn a_path_has_a_target() {
        let name = |path| parse(path).map(|path| (path.split_target().1, path.is_directory_path));
        assert_eq!(name("a/b"), Ok((PathTarget::Child("b"), false)));
        assert_eq!(name("a//b/"), Ok((PathTarget::Child("b"), true)));
        assert_eq!(name("a/."), Ok((PathTarget::Current, true)));
        assert_eq!(name("a/.//"), Ok((PathTarget::Current, true)));
        assert_eq!(name("."), Ok((PathTarget::Current, true)));
        assert_eq!(name("a/.."), Ok((PathTarget::Parent, true)));
        assert_eq!(name("..."), Ok((PathTarget::Child("..."), false)));
        assert_eq!(name(r"..\..\a"), Ok((PathTarget::Child(r"..\..\a"), false)), "a backslash separates nothing");
    }

    proptest! {
        /// The walk never leaves the directory that it began in, and goes only through names that are names.
        #[test]
        fn no_path_escapes(path in "(\\.|\\.\\.|/|a|\\\\|\u{0}|\u{202e}|😀|[a-z]){0,40}|\\PC{0,60}") {
            let Ok(path) = parse(&path) else { return Ok(()) };
            let mut depth = 0_i64;
            for step in path.steps() {
                match step {
                    PathStep::Parent => depth -= 1,
                    PathStep::Child(name) => {
                        depth += 1;
                        prop_assert!(!matches!(*name, "" | "." | ".."));
                        prop_assert!(!name.contains(['/', '\0']) && name.len() <= MAX_NAME_LENGTH);
                    }
                }
                prop_assert!((0..=MAX_DEPTH as i64).contains(&depth));
            }
            if let (before, PathTarget::Child(name)) = path.split_target() {
                prop_assert_eq!(path.steps().last(), Some(&PathStep::Child(name)));
                prop_assert_eq!(before.len() + 1, path.steps().len());
            }
        }
    }
}
