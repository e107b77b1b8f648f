//! Branches and tags: which one a name means, and where it leads.

use super::{
    oid::Oid,
    pkt::{Packet, Packets, broken, text},
    problem::{Failure, GitProblem},
};

/// Names of branches and tags are those of files, and no longer.
const NAME_BYTES_MAX: usize = 4096;

/// What a server says of a branch or tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Advertised {
    pub(super) oid: Oid,
    pub(super) name: String,
    /// What an annotated tag leads to.
    pub(super) peeled: Option<Oid>,
    /// The branch that a symbolic one such as HEAD stands for.
    pub(super) target: Option<String>,
}

/// What was meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Chosen {
    /// A commit, or an annotated tag.
    pub(super) oid: Oid,
    /// The commit behind an annotated tag, as the server has it.
    pub(super) peeled: Option<Oid>,
    /// The full name; none for a commit that was named by its digits.
    pub(super) name: Option<String>,
}

/// What to look for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    DefaultBranch,
    Commit(Oid),
    Name(String),
}

impl Wanted {
    /// What `reference` asks for.
    pub(super) fn new(reference: Option<&str>) -> Result<Self, GitProblem> {
        let Some(reference) = reference else { return Ok(Self::DefaultBranch) };
        if let Some(oid) = Oid::parse(reference.as_bytes()) {
            return Ok(Self::Commit(oid));
        }
        let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if reference.len() == 64 && is_hex(reference) {
            return Err(GitProblem::ObjectFormat { format: "sha256".to_owned() });
        }
        match reference.len() <= NAME_BYTES_MAX && !reference.bytes().any(|b| b.is_ascii_control()) {
            true => Ok(Self::Name(reference.to_owned())),
            false => Err(unknown(reference)),
        }
    }

    /// How the names begin that decide it; a server may tell more.
    pub(super) fn prefixes(&self) -> Vec<String> {
        match self {
            Self::DefaultBranch => vec!["HEAD".to_owned()],
            Self::Commit(_) => Vec::new(),
            Self::Name(name) => candidates(name).to_vec(),
        }
    }

    /// The one that is meant.
    pub(super) fn choose(&self, advertised: &[Advertised]) -> Result<Chosen, GitProblem> {
        let find = |name: &str| advertised.iter().find(|one| one.name == name);
        let found = match self {
            Self::Commit(oid) => return Ok(Chosen { oid: *oid, peeled: None, name: None }),
            Self::DefaultBranch => {
                let head = find("HEAD").ok_or(GitProblem::NoDefaultBranch)?;
                let branch = head.target.as_ref().filter(|target| target.starts_with("refs/heads/"));
                let branch = branch.ok_or(GitProblem::NoDefaultBranch)?;
                return Ok(Chosen { oid: head.oid, peeled: None, name: Some(branch.clone()) });
            }
            Self::Name(name) => {
                candidates(name).iter().find_map(|name| find(name)).ok_or_else(|| unknown(name))?
            }
        };
        Ok(Chosen { oid: found.oid, peeled: found.peeled, name: Some(found.name.clone()) })
    }
}

fn unknown(name: &str) -> GitProblem {
    let is_short = (4..40).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit());
    GitProblem::UnknownReference { reference: ocib_net::printable(name.as_bytes(), 200), is_short }
}

/// What a name can stand for, best first (BuildKit, `resolveMetadata`): branches go before tags.
fn candidates(name: &str) -> [String; 3] {
    let below = |start: &str| format!("{start}{}", name.strip_prefix(start).unwrap_or(name));
    [below("refs/"), below("refs/heads/"), below("refs/tags/")]
}

impl Chosen {
    /// Fails unless the commit, or the tag that leads to it, begins with `checksum`.
    pub(super) fn check(&self, checksum: Option<&str>) -> Result<(), GitProblem> {
        let Some(expected) = checksum else { return Ok(()) };
        if !expected.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(GitProblem::BadChecksum { checksum: ocib_net::printable(expected.as_bytes(), 100) });
        }
        let got: Vec<String> = [Some(self.oid), self.peeled].iter().flatten().map(Oid::to_string).collect();
        match got.iter().any(|oid| oid.starts_with(expected)) {
            true => Ok(()),
            false => {
                Err(GitProblem::WrongChecksum { expected: expected.to_owned(), actual: got.join(" or ") })
            }
        }
    }
}

/// Reads the answer to `ls-refs` (gitprotocol-v2).
pub(super) fn parse(answer: &[u8]) -> Result<Vec<Advertised>, Failure> {
    let mut packets = Packets::new(answer);
    let mut all = Vec::new();
    loop {
        match packets.next()? {
            // A branch without commits: there is nothing behind it.
            Some(Packet::Data(line)) if line.starts_with(b"unborn ") => {}
            Some(Packet::Data(line)) => {
                all.push(advertised(text(line)).ok_or_else(|| broken("a line of its list has no meaning"))?);
            }
            Some(Packet::Delimiter) => return Err(broken("its list has an end too many")),
            Some(Packet::Flush) => return Ok(all),
            None => return Err(broken("its list ends early")),
        }
    }
}

/// `OID NAME[ symref-target:NAME][ peeled:OID]`. Names that are not UTF-8 are not those that are sought.
fn advertised(line: &[u8]) -> Option<Advertised> {
    let mut words = line.split(|&b| b == b' ');
    let oid = Oid::parse(words.next()?)?;
    let name = String::from_utf8_lossy(words.next()?).into_owned();
    let mut one = Advertised { oid, name, peeled: None, target: None };
    for word in words {
        if let Some(peeled) = word.strip_prefix(b"peeled:") {
            one.peeled = Some(Oid::parse(peeled)?);
        } else if let Some(target) = word.strip_prefix(b"symref-target:") {
            one.target = Some(String::from_utf8_lossy(target).into_owned());
        }
    }
    Some(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn answer(lines: &[&str]) -> Vec<u8> {
        let mut packets = Vec::new();
        lines.iter().for_each(|line| super::super::pkt::push_line(&mut packets, line));
        super::super::pkt::push_flush(&mut packets);
        packets
    }

    fn choose(reference: Option<&str>, lines: &[&str]) -> Result<(String, Option<String>), String> {
        let Ok(advertised) = parse(&answer(lines)) else { panic!("{lines:?}") };
        let wanted = Wanted::new(reference).map_err(|error| error.to_string())?;
        let chosen = wanted.choose(&advertised).map_err(|error| error.to_string())?;
        Ok((chosen.oid.to_string(), chosen.name))
    }

    #[test]
    fn names_mean_what_they_mean_to_buildkit() {
        let line = |oid: &str, rest: &str| format!("{oid} {rest}");
        let head = line(A, "HEAD symref-target:refs/heads/main");
        let detached = line(A, "HEAD");
        let branch = line(A, "refs/heads/v1");
        let tag = line(B, &format!("refs/tags/v1 peeled:{A}"));
        let other = line(B, "refs/v1");
        let pull = line(B, "refs/pull/1/head");
        let ok = |oid: &str, name: &str| Ok((oid.to_owned(), Some(name.to_owned())));
        let unknown = |name: &str| Err(format!("repository does not contain ref {name}"));
        let no_branch =
            "could not find default branch for repository, expected a branch, a tag or a commit after #";
        for (reference, lines, expected) in [
            (None, vec![&head], ok(A, "refs/heads/main")),
            (None, vec![&detached], Err(no_branch.to_owned())),
            (None, vec![], Err(no_branch.to_owned())),
            (Some("v1"), vec![&branch, &tag], ok(A, "refs/heads/v1")),
            (Some("v1"), vec![&tag], ok(B, "refs/tags/v1")),
            (Some("v1"), vec![&tag, &other], ok(B, "refs/v1")),
            (Some("tags/v1"), vec![&branch, &tag], ok(B, "refs/tags/v1")),
            (Some("refs/tags/v1"), vec![&branch, &tag], ok(B, "refs/tags/v1")),
            (Some("refs/heads/v1"), vec![&branch, &tag], ok(A, "refs/heads/v1")),
            (Some("refs/pull/1/head"), vec![&pull], ok(B, "refs/pull/1/head")),
            (Some("pull/1/head"), vec![&pull], ok(B, "refs/pull/1/head")),
            (Some("v2"), vec![&branch], unknown("v2")),
            (Some("HEAD"), vec![&head], unknown("HEAD")),
            (Some("x\u{1b}"), vec![&head], unknown("x\\u{1b}")),
            (Some("abc1234"), vec![&branch], unknown("abc1234, and a commit is named by all 40 digits")),
            (Some(A), vec![], Ok((A.to_owned(), None))),
            (
                Some(&*"a".repeat(64)),
                vec![],
                Err("its objects are named by sha256, expected sha1".to_owned()),
            ),
        ] {
            let lines: Vec<&str> = lines.into_iter().map(String::as_str).collect();
            assert_eq!(choose(reference, &lines), expected, "{reference:?} {lines:?}");
        }
    }

    #[test]
    fn checksums_are_how_digits_begin() {
        let oid = |text: &str| Oid::parse(text.as_bytes()).unwrap();
        let tag = Chosen { oid: oid(A), peeled: Some(oid(B)), name: None };
        for (checksum, expected) in [
            (None, Ok(())),
            (Some("aaa"), Ok(())),
            (Some(B), Ok(())),
            (Some("abc"), Err(format!("expected checksum to match abc, got {A} or {B}"))),
            (
                Some("sha256:1"),
                Err("invalid checksum sha256:1 for Git URL, expected hex commit hash".to_owned()),
            ),
        ] {
            assert_eq!(tag.check(checksum).map_err(|error| error.to_string()), expected, "{checksum:?}");
        }
    }

    #[test]
    fn lists_that_are_none() {
        for (bytes, why) in [
            (&b"0007abc0000"[..], "a line of its list has no meaning"),
            (b"0001", "its list has an end too many"),
            (b"", "its list ends early"),
        ] {
            let Err(Failure::Problem(problem)) = parse(bytes) else { panic!("{bytes:?}") };
            assert_eq!(problem.to_string(), format!("it does not answer as a git repository: {why}"));
        }
        assert_eq!(parse(&answer(&["unborn HEAD symref-target:refs/heads/main"])).ok(), Some(vec![]));
    }
}
