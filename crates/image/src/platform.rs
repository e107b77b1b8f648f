//! Platforms: which machines an image is for (image-spec, "platform" of a descriptor).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// An operating system and a CPU architecture in Go's names, with an optional variant: `linux/arm/v7`.
/// The version of Windows stands in brackets, as containerd writes it: `windows(10.0.20348)/amd64`.
///
/// Values made by [`FromStr`] and [`Platform::normalized`] are in containerd's normal form:
/// `aarch64` is `arm64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`, `x86_64` is `amd64`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture, as GOARCH.
    pub architecture: String,
    /// Operating system, as GOOS.
    pub os: String,
    /// CPU variant such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Version of the operating system; only Windows images have one.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features that the operating system must have.
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
}

impl Platform {
    /// A platform without variant, for names known to be in normal form.
    pub fn new(os: &str, architecture: &str) -> Self {
        Self {
            os: os.into(),
            architecture: architecture.into(),
            variant: None,
            os_version: None,
            os_features: Vec::new(),
        }
    }

    /// linux/amd64: what ocib builds for unless told otherwise, on every host.
    pub fn linux_amd64() -> Self {
        Self::new("linux", "amd64")
    }

    /// The same platform in containerd's normal form (containerd/platforms, `Normalize`).
    pub fn normalized(&self) -> Self {
        let os = self.os.to_ascii_lowercase();
        let os = if os == "macos" { "darwin".to_owned() } else { os };
        let arch = self.architecture.to_ascii_lowercase();
        let variant = self.variant.as_deref().unwrap_or_default().to_ascii_lowercase();
        let (arch, variant) = match (arch.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", v) => ("arm64", v),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (arch, variant) => (arch, variant),
        };
        Self {
            os,
            architecture: arch.to_owned(),
            variant: (!variant.is_empty()).then(|| variant.to_owned()),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }

    /// How well an image for `self` serves a machine of `wanted`: `None` not at all, else the lower
    /// the better. An `arm/v7` machine also runs v6 and v5, `arm64` runs 32-bit ARM only if asked
    /// for, an amd64 of a higher level runs the lower ones (containerd/platforms, `Only`). Windows runs
    /// images of its own build, whatever their revision, so a wanted version is met by its beginning.
    pub fn serves(&self, wanted: &Platform) -> Option<u32> {
        let (have, want) = (self.normalized(), wanted.normalized());
        if have.os != want.os || have.architecture != want.architecture {
            return None;
        }
        if !version_serves(have.os_version.as_deref(), want.os_version.as_deref()) {
            return None;
        }
        let level = |platform: &Platform| match (platform.architecture.as_str(), &platform.variant) {
            ("amd64", None) => Some(1),
            ("arm64", None) => Some(8),
            (_, Some(variant)) => variant.strip_prefix('v')?.split('.').next()?.parse::<u32>().ok(),
            _ => Some(0),
        };
        if have.variant == want.variant {
            return Some(0);
        }
        let (have, want) = (level(&have)?, level(&want)?);
        (have <= want).then(|| want - have + 1)
    }
}

/// Whether the version `have` of a system is the one that is wanted: its first three numbers decide,
/// as the fourth is a revision that changes every month (containerd/platforms, `windowsVersionMatcher`).
fn version_serves(have: Option<&str>, want: Option<&str>) -> bool {
    let build = |version: &str| version.split('.').take(3).map(str::to_owned).collect::<Vec<_>>();
    match (have, want) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(have), Some(want)) => build(have) == build(want),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        self.os_version.iter().try_for_each(|version| write!(f, "({version})"))?;
        write!(f, "/{}", self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// Reads `os[(version)]/arch[/variant]`, or one word that is a known system or architecture (then the
    /// other half is `linux` or `amd64`: never the host's).
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadPlatform { text: text.chars().take(100).collect() };
        let part_is_good = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let mut parts: Vec<&str> = text.split('/').collect();
        let os_version = match parts[0].split_once('(') {
            Some((os, version)) if parts.len() > 1 => {
                parts[0] = os;
                Some(version.strip_suffix(')').ok_or_else(bad)?)
            }
            _ => None,
        };
        if !parts.iter().chain(&os_version).all(part_is_good) {
            return Err(bad());
        }
        let platform = match parts[..] {
            [word @ ("linux" | "windows" | "darwin" | "macos" | "freebsd")] => Self::new(word, "amd64"),
            [word] if ARCHITECTURES.contains(&word) => Self::new("linux", word),
            [os, arch] => Self::new(os, arch),
            [os, arch, variant] => Self { variant: Some(variant.to_owned()), ..Self::new(os, arch) },
            _ => return Err(bad()),
        };
        let os_version = os_version.map(str::to_owned);
        Ok(Self { os_version, ..platform }.normalized())
    }
}

/// Architectures that may stand alone on the command line.
const ARCHITECTURES: [&str; 17] = [
    "386", "amd64", "arm", "arm64", "aarch64", "x86_64", "x86-64", "i386", "armhf", "armel", "ppc64le",
    "ppc64", "s390x", "riscv64", "mips64le", "mips64", "loong64",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_to_normal_form() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("arm64", "linux/arm64"),
            ("linux", "linux/amd64"),
            ("linux/riscv64", "linux/riscv64"),
            ("Linux/AMD64", "linux/amd64"),
            ("windows(10.0.20348.2113)/amd64", "windows(10.0.20348.2113)/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected, "{text}");
        }
        for text in
            ["", "a/b/c/d", "linux/", "x y", "nonsense", "windows(10/amd64", "windows()/amd64", "windows(1)"]
        {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn lower_variants_serve_higher_machines() {
        for (have, want, expected) in [
            ("linux/arm/v6", "linux/arm/v7", Some(2)),
            ("linux/arm/v7", "linux/arm/v6", None),
            ("linux/arm64", "linux/arm64", Some(0)),
            ("linux/arm64", "linux/amd64", None),
            ("linux/amd64", "linux/amd64/v3", Some(3)),
            ("linux/amd64/v3", "linux/amd64", None),
            ("windows(10.0.20348.2113)/amd64", "windows/amd64", Some(0)),
            ("windows(10.0.20348.2113)/amd64", "windows(10.0.20348)/amd64", Some(0)),
            ("windows(10.0.20348.2113)/amd64", "windows(10.0.20348.1)/amd64", Some(0)),
            ("windows(10.0.17763.1)/amd64", "windows(10.0.20348)/amd64", None),
            ("windows/amd64", "windows(10.0.20348)/amd64", None),
        ] {
            let parse = |text: &str| text.parse::<Platform>().unwrap();
            assert_eq!(parse(have).serves(&parse(want)), expected, "{have} for {want}");
        }
    }
}
