#!/usr/bin/env python3
"""check.py --ocib PATH --registry HOST:PORT [--filter X]: build every case and compare with its
expected.json (modification times aside). Prints a JSON object: for each case the list of differences,
empty where there is none. The registry speaks plain HTTP and gets the bases first."""
import argparse, concurrent.futures, functools, http.server, json, os, pathlib, shutil, subprocess, sys
import tarfile, tempfile, threading, time, urllib.parse, urllib.request, zlib

TOOLS = pathlib.Path(__file__).resolve().parent
CORPUS = TOOLS.parent
sys.dont_write_bytecode = True                  # the corpus may be read-only, and git shall see no caches
sys.path.insert(0, str(TOOLS))
from flatten import flatten

LIMIT = 120                                     # seconds for one build


def push(archive, repo, tag):
    """Push an OCI archive to a registry, byte for byte (so that digests and media types stay)."""
    def req(method, url, data=None, kind="application/octet-stream"):
        return urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": kind}, method=method))

    with tarfile.open(archive) as tar:
        read = lambda name: tar.extractfile(name).read()

        def blob(d):
            place = req("POST", repo + "/blobs/uploads/", b"").headers["Location"]
            req("PUT", place + ("&" if "?" in place else "?") + "digest=" + urllib.parse.quote(d["digest"]),
                read("blobs/" + d["digest"].replace(":", "/")))

        def manifest(d, name):
            data = read("blobs/" + d["digest"].replace(":", "/"))
            doc = json.loads(data)
            for m in doc.get("manifests", []):
                manifest(m, m["digest"])
            if "config" in doc:
                for b in [doc["config"]] + doc["layers"]:
                    blob(b)
            req("PUT", repo + "/manifests/" + name, data, d["mediaType"])

        manifest(json.loads(read("index.json"))["manifests"][0], tag)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files of the case; /redirect/X sends on to /X."""

    def do_GET(self):
        if self.path.startswith("/redirect/"):
            self.send_response(302)
            self.send_header("Location", self.path[len("/redirect"):])
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *a):
        pass


class Case:
    def __init__(self, path):
        self.path = pathlib.Path(path).resolve()
        self.name = "%s/%s" % (self.path.parent.name, self.path.name)
        self.meta = json.loads((self.path / "case.json").read_text())
        self.platforms = self.meta.get("platforms") or ["linux/amd64"]

    def expected(self):
        return json.loads((self.path / "expected.json").read_text())

    def script(self, name, cwd):
        if (self.path / name).exists():
            env = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC", "CASE": str(self.path)}
            subprocess.run(["sh", "-eu", "-c", 'umask 022; . "$CASE"/' + name], cwd=cwd, env=env, check=True)

    def settle(self, root):
        """Times of whole seconds, of this case's own, for all that context.sh did not date itself."""
        start = 1400000000 + zlib.crc32(self.name.encode()) % 200000000
        for i, p in enumerate(sorted(root.rglob("*"))):
            if p.lstat().st_mtime > time.time() - 3600:
                os.utime(p, (start + i, start + i), follow_symlinks=False)

    def run(self, ocib, registry):
        """Build in a fresh directory: (outcome, error text, images)."""
        work = pathlib.Path(tempfile.mkdtemp(prefix="ocib-case-"))
        server = None
        try:
            for d in ("context", "dockerfile", "http"):
                (work / d).mkdir()
            self.script("context.sh", work / "context")
            self.settle(work / "context")
            place = self.meta.get("dockerfile", "Dockerfile")
            if place.startswith("context:"):    # the Dockerfile that context.sh put in the context
                dockerfile = work / "context" / place[8:]
            else:
                dockerfile = work / "dockerfile" / place
            for f in self.path.glob("*Dockerfile*"):
                shutil.copy(f, work / "dockerfile" / f.name)
            if dockerfile.is_file() and b"@REGISTRY@" in dockerfile.read_bytes():
                dockerfile.write_bytes(dockerfile.read_bytes().replace(b"@REGISTRY@", registry.encode()))
            args = {"REGISTRY": registry, **self.meta.get("args", {})}
            if "http" in self.meta.get("needs", []):
                if (self.path / "http").is_dir():
                    shutil.copytree(self.path / "http", work / "http", dirs_exist_ok=True)
                self.script("http.sh", work / "http")
                server = http.server.ThreadingHTTPServer(
                    ("127.0.0.1", 0), functools.partial(Quiet, directory=str(work / "http")))
                threading.Thread(target=server.serve_forever, daemon=True).start()
                args["HTTP"] = "http://127.0.0.1:%d" % server.server_port
            out = work / "out.tar"
            argv = [ocib, "build", work / "context", "-f", dockerfile, "--platform", ",".join(self.platforms)]
            for k, v in args.items():
                argv += ["--build-arg", "%s=%s" % (k, v)]
            if self.meta.get("target") is not None:
                argv += ["--target", self.meta["target"]]
            argv += ["--output", "type=oci,dest=%s" % out]
            p = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT)
            error = p.stderr.decode("utf-8", "replace")
            if p.returncode < 0 or p.returncode in (101, 134, 139):
                return "crash", error, []       # a signal or a Rust panic is no refusal
            if p.returncode != 0:
                return "error", error, []
            return "ok", "", flatten(str(out))
        except subprocess.TimeoutExpired:
            return "timeout", "the build took more than %d s" % LIMIT, []
        finally:
            if server:
                server.shutdown()
                server.server_close()
            shutil.rmtree(work, ignore_errors=True)


def clean(value):
    """Empty and absent mean the same in an image config."""
    return {k: v for k, v in value.items() if v not in (None, "", [], {}, 0, False)}


def differences(want, outcome, error, images):
    if outcome != want["outcome"]:
        tail = " ".join(error.split())[-300:]
        return ["outcome: expected %s%s, got %s%s" % (
            want["outcome"], " (%s)" % want["error"][:160] if want.get("error") else "", outcome, ": " + tail if tail else "")]
    out = []
    names = [i["platform"] for i in want["images"]], [i["platform"] for i in images]
    if sorted(names[0]) != sorted(names[1]):
        return ["platforms: expected %s, got %s" % names]
    for w in want["images"]:
        g = next(i for i in images if i["platform"] == w["platform"])
        at = "" if len(want["images"]) == 1 else w["platform"] + " "
        wc, gc = clean(w["config"]), clean(g["config"])
        for k in sorted(set(wc) | set(gc)):
            a, b = wc.get(k), gc.get(k)
            if isinstance(a, dict) and isinstance(b, dict) and k == "Healthcheck":
                a, b = clean(a), clean(b)
            if a != b:
                out.append("%sconfig %s: expected %s, got %s" % (at, k, json.dumps(a), json.dumps(b)))
        if w.get("author") != g.get("author"):
            out.append("%sauthor: expected %r, got %r" % (at, w.get("author"), g.get("author")))
        wf, gf = ({e["path"]: e for e in i["rootfs"]} for i in (w, g))
        for p in sorted(set(wf) | set(gf)):
            if p not in gf:
                out.append("%s%s: missing (expected %s)" % (at, p, wf[p]["type"]))
            elif p not in wf:
                out.append("%s%s: not expected (got %s)" % (at, p, gf[p]["type"]))
            else:
                a, b = ({k: v for k, v in e[p].items() if k not in ("mtime", "implied")} for e in (wf, gf))
                diff = [k for k in sorted(set(a) | set(b)) if a.get(k) != b.get(k)]
                if diff:
                    out.append("%s%s: %s" % (at, p, ", ".join(
                        "%s expected %s, got %s" % (k, a.get(k), b.get(k)) for k in diff)))
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--ocib", required=True, help="the program to check")
    ap.add_argument("--registry", required=True, help="HOST:PORT of an empty registry")
    ap.add_argument("--filter", default="", help="part of CATEGORY/NAME")
    a = ap.parse_args()
    for base in sorted((CORPUS / "bases").glob("*.tar")):
        push(base, "http://%s/v2/%s" % (a.registry, base.stem), "1")
    cases = map(Case, sorted(p.parent for p in (CORPUS / "cases").glob("*/*/case.json")))

    def check(case):
        try:
            return case.name, differences(case.expected(), *case.run(a.ocib, a.registry))
        except Exception as e:                  # an output that cannot be read is a failure of that case
            return case.name, ["%s: %s" % (type(e).__name__, e)]

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        print(json.dumps(dict(pool.map(check, [c for c in cases if a.filter in c.name])), indent=1))


if __name__ == "__main__":
    main()
