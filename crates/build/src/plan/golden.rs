//! Plans of Dockerfiles in the style of well-known images: `testdata/plans/NAME/Dockerfile` and the
//! plan beside it. `flags` there, if it is, holds `--platform`, `--build-arg` and `--target`, one a
//! line; `testdata/plans/bases.json` has the configs of all bases, by name.
//!
//! `OCIB_TEST_REWRITE=1 cargo test -p ocib-build golden` writes the plans anew.

use std::{collections::BTreeMap, fs, path::Path};

use ocib_image::Platform;
use serde_json::Value;

use super::{Doubts, plan, tests::image};
use crate::{
    Request,
    stages::{Images, Stages},
};

/// The environment variable that has plans written instead of compared.
pub(crate) const REWRITE: &str = "OCIB_TEST_REWRITE";

/// Every image that the request needs, out of `bases`; each is there for any platform.
pub(crate) fn images(stages: &Stages<'_>, bases: &BTreeMap<String, Value>) -> Images {
    let mut images = Images::new();
    loop {
        let missing = stages.missing(&images).unwrap();
        if missing.is_empty() {
            return images;
        }
        for (key, _) in missing {
            let (name, platform) = &key;
            let config = bases.get(&name.to_string());
            let mut config = config.unwrap_or_else(|| panic!("bases.json lacks {name}")).clone();
            config["os"] = platform.os.clone().into();
            config["architecture"] = platform.architecture.clone().into();
            images.insert(key, image(&config.to_string()));
        }
    }
}

pub(crate) fn request(case: &Path) -> Request {
    let dockerfile = fs::read(case.join("Dockerfile")).unwrap();
    let mut request = Request::new(ocib_dockerfile::parse(&dockerfile).unwrap());
    let flags = fs::read_to_string(case.join("flags")).unwrap_or_default();
    for line in flags.lines() {
        match line.split_once(' ') {
            Some(("--platform", platform)) => request.platforms = vec![platform.parse::<Platform>().unwrap()],
            Some(("--build-arg", pair)) => {
                let (name, value) = pair.split_once('=').unwrap();
                request.build_args.insert(name.to_owned(), value.to_owned());
            }
            Some(("--target", stage)) => request.target = Some(stage.to_owned()),
            _ => panic!("{}: {line:?} is no flag that plans know", case.display()),
        }
    }
    request
}

#[test]
fn well_known_images() {
    // Asked for at run time: the target directory may be shared by several checkouts.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    let directory = Path::new(&package).join("../../testdata/plans");
    let bases: BTreeMap<String, Value> =
        serde_json::from_slice(&fs::read(directory.join("bases.json")).unwrap()).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let case = entry.unwrap().path();
        if !case.is_dir() {
            continue;
        }
        count += 1;
        let request = request(&case);
        let stages = Stages::new(&request, &request.platforms[0]).unwrap();
        let found = plan(&stages, &images(&stages, &bases), &Doubts::new()).unwrap().to_string();
        let golden = case.join("plan.txt");
        if std::env::var_os(REWRITE).is_some() {
            fs::write(&golden, &found).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(found, expected, "{} (set {REWRITE}=1 to write it anew)", case.display());
    }
    assert!(count >= 25, "only {count} cases were found");
}
