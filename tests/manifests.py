#!/usr/bin/env python3
"""manifests.py FILE...: checks manifests against Kubernetes' own schemas, strictly, in the oldest and the newest
version that there are. Of a kind that is not Kubernetes' own the pods within are checked. Prints what it checked.
"""

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


def dangling(objects):
    """Bindings that name a role or an account which no file of theirs has."""
    there = {(one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]) for one in objects if "name" in one["metadata"]}
    for one in objects:
        if one["kind"] == "RoleBinding":
            namespace = one["metadata"]["namespace"]
            wanted = [(one["roleRef"]["kind"], namespace, one["roleRef"]["name"])]
            wanted += [(subject["kind"], subject["namespace"], subject["name"]) for subject in one["subjects"]]
            yield from (name for name in wanted if name not in there)


def main():
    versions = kubernetes_validate.utils.all_versions()
    objects = []
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            documents = list(yaml.safe_load_all(file))
        objects += documents
        for document in documents:
            for part in checkable(document):
                for version in (versions[0], versions[-1]):
                    kubernetes_validate.validate(part, version, strict=True)
            print(f"{path.rsplit('/', 1)[-1]}: {document['kind']}")
    for name in dangling(objects):
        sys.exit(f"nothing is {name}")


main()
