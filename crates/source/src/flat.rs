//! Directories out of full paths: what stores keep by name alone, seen as a tree.

use std::{collections::BTreeMap, ops::Bound};

/// Values by paths, such as `a/b`; directories are where paths lead through.
#[derive(Debug)]
pub(crate) struct Flat<T>(BTreeMap<Box<[u8]>, T>);

/// What is at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place<'a, T> {
    File(&'a T),
    Directory,
}

impl<T> Default for Flat<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Flat<T> {
    /// Puts `value` at `path`, or says which rule the path breaks.
    pub(crate) fn insert(&mut self, path: &[u8], value: T) -> Result<(), &'static str> {
        for part in path.split(|&b| b == b'/') {
            match part {
                b"" => return Err("a part of its path is empty"),
                b"." | b".." => return Err("a part of its path is . or .."),
                part if part.contains(&0) => return Err("its path has a zero byte"),
                _ => {}
            }
        }
        let above = (0..path.len()).filter(|&at| path[at] == b'/').map(|at| &path[..at]);
        if above.into_iter().any(|above| self.0.contains_key(above)) || self.is_directory(path) {
            return Err("it is a file and a directory");
        }
        match self.0.insert(path.into(), value) {
            None => Ok(()),
            Some(_) => Err("it is there twice"),
        }
    }

    pub(crate) fn get(&self, path: &[u8]) -> Option<&T> {
        self.0.get(path)
    }

    pub(crate) fn get_mut(&mut self, path: &[u8]) -> Option<&mut T> {
        self.0.get_mut(path)
    }

    /// What is at `path`; the root is a directory.
    pub(crate) fn find(&self, path: &[u8]) -> Option<Place<'_, T>> {
        match self.0.get(path) {
            Some(value) => Some(Place::File(value)),
            None => (path.is_empty() || self.is_directory(path)).then_some(Place::Directory),
        }
    }

    /// The names in the directory at `path`, sorted.
    pub(crate) fn names(&self, path: &[u8]) -> Vec<Box<[u8]>> {
        let skip = if path.is_empty() { 0 } else { path.len() + 1 };
        let mut names: Vec<Box<[u8]>> = Vec::new();
        for (path, _) in self.below(path) {
            let name = path[skip..].split(|&b| b == b'/').next().unwrap_or_default();
            names.push(name.into());
        }
        // Not only neighbours: `a-b` stands between `a` and `a/b`.
        names.sort_unstable();
        names.dedup();
        names
    }

    /// All paths and values, sorted by path.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &T)> {
        self.0.iter().map(|(path, value)| (&**path, value))
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        self.below(path).next().is_some()
    }

    fn below(&self, path: &[u8]) -> impl Iterator<Item = (&Box<[u8]>, &T)> {
        let with = |end: u8| [path, &[end]].concat().into_boxed_slice();
        // The byte after a slash ends what begins with one.
        self.0.range(match path {
            b"" => (Bound::Unbounded, Bound::Unbounded),
            _ => (Bound::Included(with(b'/')), Bound::Excluded(with(b'/' + 1))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(paths: &[&str]) -> Flat<usize> {
        let mut flat = Flat::default();
        for (at, path) in paths.iter().enumerate() {
            flat.insert(path.as_bytes(), at).unwrap();
        }
        flat
    }

    #[test]
    fn directories_are_where_paths_lead_through() {
        let flat = flat(&["a/b", "a-b", "a/c/d", "a0", "z"]);
        let names = |path: &str| {
            let names = flat.names(path.as_bytes());
            names.iter().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect::<Vec<_>>().join(" ")
        };
        for (path, expected) in [("", "a a-b a0 z"), ("a", "b c"), ("a/c", "d"), ("z", "")] {
            assert_eq!(names(path), expected, "{path}");
        }
        for (path, expected) in [
            ("", Some(Place::Directory)),
            ("a", Some(Place::Directory)),
            ("a/c", Some(Place::Directory)),
            ("a/c/d", Some(Place::File(&2))),
            ("a/", None),
            ("b", None),
        ] {
            assert_eq!(flat.find(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn what_has_no_place() {
        let mut flat = flat(&["a/b", "c"]);
        for (path, expected) in [
            ("", "a part of its path is empty"),
            ("/a", "a part of its path is empty"),
            ("d//e", "a part of its path is empty"),
            ("d/../e", "a part of its path is . or .."),
            (".", "a part of its path is . or .."),
            ("a\0", "its path has a zero byte"),
            ("a", "it is a file and a directory"),
            ("c/d", "it is a file and a directory"),
            ("a/b/c/d", "it is a file and a directory"),
            ("c", "it is there twice"),
        ] {
            assert_eq!(flat.insert(path.as_bytes(), 9), Err(expected), "{path}");
        }
    }
}
