//! The only place where a guest's path is parsed. All other code works with the resulting names.

/// Maximum size of a path in bytes.
pub const MAX_PATH_LENGTH: usize = 4 << 10;
/// Maximum size of a name in bytes (`NAME_MAX` of POSIX systems).
pub const MAX_NAME_LENGTH: usize = 255;
/// Maximum depth of nested directories, and number of names in one path.
pub const MAX_DEPTH: usize = 32;

/// One step of a walk through directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathStep<'a> {
    /// To the child with this name, which is neither empty nor `.` nor `..`, and contains neither `/` nor a NUL
    /// character.
    Child(&'a str),
    /// Back to the directory that the walk came from; never from its first directory.
    Parent,
}

/// A path below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPath<'a> {
    steps: Vec<PathStep<'a>>,
    last_component: LastComponent,
    /// Whether the path ends with a slash, `.` or `..`, so that it can only name a directory.
    pub is_directory_path: bool,
}

/// Kind of the last component of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastComponent {
    Name,
    Dot,
    DotDot,
}

/// Target of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathTarget<'a> {
    /// A child of the directory to which the other steps lead.
    Child(&'a str),
    /// The current directory of the walk, such as `.` or `a/.`.
    Current,
    /// The directory that the walk came from, such as `a/..`.
    Parent,
}

/// Why a path is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path is empty.
    #[error("the path is empty")]
    Empty,
    /// The path begins with a slash.
    #[error("the path is absolute")]
    Absolute,
    /// The path leads outside the directory where it begins.
    #[error("the path leads outside its directory")]
    Escapes,
    /// The path or a name in it is too long, or the path has too many names.
    #[error(
        "the path is longer than {MAX_PATH_LENGTH} bytes, has a name of more than {MAX_NAME_LENGTH} bytes or more than \
         {MAX_DEPTH} names"
    )]
    TooLong,
    /// The path contains a NUL character.
    #[error("the path contains a NUL character")]
    Nul,
}

/// Parses a path. Does not look anything up, because whether `a/..` is a directory depends on `a` being one.
///
/// # Errors
///
/// [`PathError`], above all for a path that would leave the directory where it begins.
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
    /// Returns all steps in order.
    pub fn steps(&self) -> &[PathStep<'a>] {
        &self.steps
    }

    /// Returns the steps to the directory of the path's target, and the target.
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
        /// The walk never leaves its first directory, and uses only valid names.
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
