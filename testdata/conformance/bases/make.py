#!/usr/bin/env python3
"""make.py: write the base images of the corpus, as OCI archives, next to this file.
The same bytes on every run (zstd layers: with the same zstd program)."""
import gzip, hashlib, io, json, pathlib, subprocess, tarfile

HERE = pathlib.Path(__file__).resolve().parent
WHEN = 1577934245                               # 2020-01-02 03:04:05 UTC
OCI, DOCKER = "application/vnd.oci.image.", "application/vnd.docker."


def layer(entries):
    """A tar from (path, kind, mode, uid, gid, content, link target or xattrs) rows."""
    buf = io.BytesIO()
    with tarfile.open(fileobj=buf, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, kind, mode, uid, gid, value in entries:
            t = tarfile.TarInfo(path)
            t.mode, t.uid, t.gid, t.mtime = mode, uid, gid, WHEN
            t.type = {"dir": tarfile.DIRTYPE, "file": tarfile.REGTYPE, "link": tarfile.SYMTYPE,
                      "hard": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE}[kind]
            if kind in ("link", "hard"):
                t.linkname = value
            data = value.encode() if kind == "file" else b""
            t.size = len(data)
            tar.addfile(t, io.BytesIO(data))
    return buf.getvalue()


def d(path, mode=0o755, uid=0, gid=0): return (path, "dir", mode, uid, gid, "")
def f(path, content="", mode=0o644, uid=0, gid=0): return (path, "file", mode, uid, gid, content)
def l(path, to): return (path, "link", 0o777, 0, 0, to)
def h(path, to): return (path, "hard", 0o644, 0, 0, to)


class Archive:
    def __init__(self, name):
        self.name, self.blobs = name, {}

    def blob(self, data, kind, **more):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"mediaType": kind, "digest": digest, "size": len(data), **more}

    def image(self, layers, config, arch="amd64", variant=None, compress="gzip", docker=False):
        m = DOCKER + "distribution.manifest.v2+json" if docker else OCI + "manifest.v1+json"
        c = DOCKER + "container.image.v1+json" if docker else OCI + "config.v1+json"
        y = DOCKER + "image.rootfs.diff.tar" if docker else OCI + "layer.v1.tar"
        doc = {"created": "2020-01-02T03:04:05Z", "architecture": arch, "os": "linux"}
        if variant:
            doc["variant"] = variant
        if config:
            doc["config"] = config
        doc["rootfs"] = {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(x).hexdigest() for x in layers]}
        doc["history"] = [{"created": "2020-01-02T03:04:05Z", "created_by": "layer %d" % i} for i in range(len(layers))]
        packed = []
        for x in layers:
            if compress == "gzip":
                packed.append(self.blob(gzip.compress(x, 9, mtime=0), y + (".gzip" if docker else "+gzip")))
            elif compress == "zstd":
                z = subprocess.run(["zstd", "-19cq"], input=x, stdout=subprocess.PIPE, check=True).stdout
                packed.append(self.blob(z, y + "+zstd"))
            else:
                packed.append(self.blob(x, y))
        man = {"schemaVersion": 2, "mediaType": m, "config": self.blob(json.dumps(doc).encode(), c), "layers": packed}
        return self.blob(json.dumps(man).encode(), m)

    def save(self, descriptor):
        files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
                 "index.json": json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()}
        files.update({"blobs/" + k.replace(":", "/"): v for k, v in sorted(self.blobs.items())})
        with tarfile.open(HERE / (self.name + ".tar"), "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, data in files.items():
                t = tarfile.TarInfo(name)
                t.size, t.mtime, t.mode = len(data), 0, 0o644
                tar.addfile(t, io.BytesIO(data))


# The file system of base-a and base-fs: named users, odd modes and owners, links of every sort.
FS = [
    d("etc/"), d("usr/"), d("usr/bin/"), d("run/"), d("var/"), d("job/", 0o750, 7, 8), d("job/dir/", 0o711, 9, 10),
    f("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\n"
                    "app:x:1001:1002:App User:/home/app:/bin/sh\nweb:x:33:50::/srv:/bin/false\n"
                    "4242:x:77:78:a name made of digits:/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n"),
    f("etc/group", "root:x:0:\ndaemon:x:1:\nappgrp:x:1002:app\nstaff:x:50:web,app\nnogroup:x:65534:\n"),
    f("usr/bin/tool", "#!/bin/sh\necho tool\n", 0o4755), f("usr/bin/gtool", "#!/bin/sh\necho gtool\n", 0o2755, 0, 50),
    l("bin", "usr/bin"), l("var/run", "/run"), f("run/lock", "locked\n", 0o600, 33, 33),
    d("opt/"), d("opt/private/", 0o700, 1001, 1002), f("opt/private/key", "secret\n", 0o400, 1001, 1002),
    f("opt/afile", "a file where one may expect a directory\n"), d("opt/adir/", 0o775, 3, 4),
    f("opt/adir/inner", "inner\n", 0o640, 3, 4), d("opt/adir/sub/"), f("opt/adir/sub/deep", "deep\n"),
    d("srv/"), d("srv/sticky/", 0o1777), d("srv/setgid/", 0o2775, 0, 50),
    d("data/"), d("data/real/", 0o751, 11, 12), f("data/real/keep", "keep\n"), f("data/file", "plain\n", 0o664, 5, 6),
    f("data/hard1", "hard\n"), h("data/hard2", "data/hard1"),
    d("links/"), l("links/abs", "/data/real"), l("links/rel", "../data/real"), l("links/tofile", "../data/file"),
    l("links/dangling", "/nowhere/here"), l("links/escape", "../../../../data/real"), l("links/loop", "loop"),
    l("links/chain", "abs"),
]
CONFIG = {
    "User": "app", "ExposedPorts": {"8080/tcp": {}},
    "Env": ["PATH=/usr/local/bin:/usr/bin", "BASE_ENV=from-base", "GREETING=hello world"],
    "Entrypoint": ["/base-entry", "--flag"], "Cmd": ["base-cmd", "base-arg"], "Volumes": {"/base-vol": {}},
    "WorkingDir": "/job/dir", "Labels": {"base.label": "base", "shared": "of the base"}, "StopSignal": "SIGQUIT",
    "Shell": ["/bin/bash", "-o", "pipefail", "-c"],
    "Healthcheck": {"Test": ["CMD", "/base-health"], "Interval": 30000000000, "Retries": 3},
}


def main():
    a = Archive("base-a")
    a.save(a.image([layer(FS)], CONFIG))

    a = Archive("base-fs")                      # the same files, next to no config
    a.save(a.image([layer(FS)], {"Env": ["PATH=/bin"]}))

    a = Archive("base-empty")                   # no layer at all
    a.save(a.image([], {"Env": ["PATH=/e", "EMPTY_BASE=1"], "WorkingDir": "/from/empty"}))

    a = Archive("base-bare")                    # no config object, so no PATH either; an uncompressed layer
    a.save(a.image([layer([d("b/"), f("b/f", "bare\n")])], None, compress=None))

    a = Archive("base-multi")
    manifests = []
    for arch, variant in (("amd64", None), ("arm64", None), ("arm", "v7")):
        full = arch + (variant or "")
        m = a.image([layer([d("etc/"), f("etc/arch", full + "\n"), d("only-" + full + "/"), f("only-%s/x" % full, full)])],
                    {"Env": ["PATH=/bin", "BASE_ARCH=" + full], "Labels": {"arch": full}}, arch, variant)
        m["platform"] = {"architecture": arch, "os": "linux", **({"variant": variant} if variant else {})}
        manifests.append(m)
    kind = OCI + "index.v1+json"
    a.save(a.blob(json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).encode(), kind))

    a = Archive("base-whiteout")                # what lower layers hold and upper ones take away
    a.save(a.image([
        layer([d("keep/"), f("keep/a", "a1\n"), f("keep/b", "b1\n"), d("gone/"), f("gone/x", "x\n"), d("opq/", 0o700, 1, 1),
               f("opq/old", "old\n"), d("opq/olddir/"), f("opq/olddir/f", "f\n"), f("swap", "file first\n"), d("swapdir/"),
               f("swapdir/in", "in\n"), f("h1", "linked\n"), h("h2", "h1"), l("lnk", "keep")]),
        layer([d("keep/"), f("keep/.wh.b"), f(".wh.gone"), d("opq/", 0o755, 2, 2), f("opq/.wh..wh..opq"),
               f("opq/new", "new\n"), d("swap/"), f("swap/now-a-dir", "yes\n"), f("swapdir", "dir first\n"), f(".wh.h1")]),
        layer([d("gone/", 0o711), f("gone/y", "y\n"), f("keep/a", "a3\n", 0o600, 9, 9), f(".wh.lnk"), d("lnk/"), f("lnk/f", "f\n")]),
    ], {"Env": ["PATH=/bin"]}))

    a = Archive("base-onbuild")
    a.save(a.image([layer([d("etc/"), f("etc/passwd", "root:x:0:0::/:/bin/sh\nbob:x:501:502::/:/bin/sh\n"),
                           f("etc/group", "root:x:0:\nbobs:x:502:\n")])],
                   {"Env": ["PATH=/bin", "ROOT=/onb"], "WorkingDir": "/onb",
                    "OnBuild": ["ARG WHO=nobody", "ENV TRIGGERED=yes WHO_WAS=$WHO", "COPY --chown=bob trigger.txt ${ROOT}/copied/",
                                "LABEL from.onbuild=\"$TRIGGERED\""]}))

    a = Archive("base-zstd")
    a.save(a.image([layer([d("z/", 0o700), f("z/one", "zstd one\n")]), layer([d("z/", 0o750), f("z/two", "zstd two\n"), f("z/.wh.one")])],
                   {"Env": ["PATH=/bin"], "Cmd": ["/z/two"]}, compress="zstd"))

    a = Archive("base-docker")                  # docker media types
    a.save(a.image([layer([d("dk/"), f("dk/one", "docker one\n"), l("dk/to-one", "one")]), layer([f("dk/two", "docker two\n", 0o444)])],
                   {"Env": ["PATH=/bin", "DK=1"], "Cmd": ["sh"], "Entrypoint": ["/dk/one"]}, docker=True))


main()
