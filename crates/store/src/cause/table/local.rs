//! What goes wrong on this machine.

use ocib_image::PlaceErrorKind::{Input, Local, NotFound, Refused};

use super::{Cause, cause};

pub(super) const CAUSES: [Cause; 9] = [
    cause(
        "disk-full",
        "a disk here is full",
        "make room, or choose another place: --output and --scratch-dir say where ocib writes, a push writes nothing",
        Local,
        &[&["no space left on device"], &["disk quota exceeded"]],
    ),
    cause(
        "read-only-file-system",
        "a file system here is read-only",
        "name a directory that can be written with --scratch-dir or --output; a push needs none",
        Local,
        &[&["read-only file system"]],
    ),
    cause(
        "file-permission",
        "a file here may not be read or written",
        "give this user the right, or choose another place",
        Local,
        &[&["permission denied (os error 13)"], &["eacces"], &["open ", ": permission denied"]],
    ),
    cause(
        "out-of-memory",
        "the program was ended for want of memory",
        "give the pod more memory; ocib itself stays within --memory, half of the cgroup's limit by default",
        Local,
        &[
            &["oomkilled"],
            &["exit code 137"],
            &["signal: killed"],
            &["cannot allocate memory"],
            &["out of memory"],
        ],
    ),
    cause(
        "memory-budget",
        "the memory budget is too small",
        "give more with --memory, or a cheaper --compression",
        Refused,
        &[&["a memory budget of"]],
    ),
    cause(
        "input-changed",
        "a file changed while it was read",
        "something writes to the context: let it finish, or build from a copy",
        Input,
        &[&["changed while it was read"]],
    ),
    cause(
        "exec-format",
        "the image is for another kind of machine",
        "build with --platform of the nodes that run it, such as linux/amd64; `ocib inspect` shows what an image is for",
        Refused,
        &[&["exec format error"]],
    ),
    cause(
        "layout-broken",
        "the directory is no OCI layout",
        "it needs `oci-layout` and `index.json`: write it with --output type=oci,dest=DIR,tar=false",
        Input,
        &[&["is not an oci layout"]],
    ),
    cause(
        "layout-image-missing",
        "the layout has no such image",
        "name one that the message lists, as in oci-layout://DIR:TAG",
        NotFound,
        &[&["has the images"], &["has no images"]],
    ),
];
