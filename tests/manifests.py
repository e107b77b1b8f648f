#!/usr/bin/env python3
"""manifests.py FILE...: checks manifests against Kubernetes' own schemas, strictly, in the oldest and the newest
version that there are. KServe's kinds are checked against KServe's own client. Of other kinds that are not
Kubernetes' own the pods within are checked. Prints what it checked.
"""

import ast
import importlib.util
import pathlib
import re
import sys

import kubernetes_validate
import yaml


def checkable(document):
    """The document itself, or the pods that an Argo workflow would make."""
    if not document["apiVersion"].startswith("argoproj.io/"):
        return [document]
    spec = document["spec"]
    return [pod(spec, template) for template in spec["templates"] if "container" in template]


def pod(spec, template):
    container = {"name": "main", **template["container"]}
    volumes = spec.get("volumes", []) + template.get("volumes", [])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": template["name"]},
        "spec": {"serviceAccountName": spec["serviceAccountName"], "containers": [container], "volumes": volumes},
    }


def versions(document):
    """The oldest and the newest; volumes of images came in 1.31."""
    every = kubernetes_validate.utils.all_versions()
    volumes = document.get("spec", {}).get("volumes", [])
    oldest = "1.31.0" if any("image" in volume for volume in volumes) else every[0]
    return [min((one for one in every if numbers(one) >= numbers(oldest)), key=numbers), every[-1]]


def numbers(version):
    return [int(part) for part in version.split(".")]


def kserve_fields(kind):
    """Fields of one of KServe's kinds and their types, out of its client, which is read and not run."""
    package = pathlib.Path(importlib.util.find_spec("kserve").origin).parent
    file = re.sub("(?<!^)(?=[A-Z])", "_", kind).lower()
    tables = {}
    for node in ast.walk(ast.parse((package / "models" / f"{file}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and isinstance(node.targets[0], ast.Name):
            tables[node.targets[0].id] = ast.literal_eval(node.value)
    return {tables["attribute_map"][name]: kind for name, kind in tables["openapi_types"].items()}


def check_kserve(value, kind, place):
    if kind.startswith("list["):
        for number, one in enumerate(value):
            check_kserve(one, kind[len("list[") : -1], f"{place}[{number}]")
    elif kind.startswith("V1beta1"):
        fields = kserve_fields(kind)
        for name, one in value.items():
            if name not in fields:
                sys.exit(f"{place}: '{name}' was unexpected, {kind} has {', '.join(sorted(fields))}")
            check_kserve(one, fields[name], f"{place}.{name}")
    elif kind == "str" and not isinstance(value, str):
        sys.exit(f"{place}: {value!r} is no text")


def dangling(objects):
    """Bindings that name a role or an account which no file of theirs has."""
    there = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects if "name" in one["metadata"]}
    for one in objects:
        if one["kind"] == "RoleBinding":
            namespace = one["metadata"]["namespace"]
            wanted = [(one["roleRef"]["kind"], namespace, one["roleRef"]["name"])]
            wanted += [(subject["kind"], subject["namespace"], subject["name"]) for subject in one["subjects"]]
            yield from (name for name in wanted if name not in there)


def main():
    objects = []
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            documents = list(yaml.safe_load_all(file))
        objects += documents
        for document in documents:
            if document["apiVersion"] == "serving.kserve.io/v1beta1":
                check_kserve(document, f"V1beta1{document['kind']}", document["kind"])
                print(f"{path.rsplit('/', 1)[-1]}: {document['kind']}")
                continue
            for part in checkable(document):
                for version in versions(part):
                    kubernetes_validate.validate(part, version, strict=True)
            print(f"{path.rsplit('/', 1)[-1]}: {document['kind']}")
    for name in dangling(objects):
        sys.exit(f"nothing is {name}")


main()
