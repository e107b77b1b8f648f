"""AWS's own client against the emulator: signatures, shapes and errors are judged by botocore."""
import hashlib
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

case, url = sys.argv[1:]
config = Config(retries={"max_attempts": 1})


def client(service, **more):
    return boto3.client(service, endpoint_url=url, config=config, **more)


def attempt(label, call, **arguments):
    try:
        answer = call(**arguments)
        answer.pop("ResponseMetadata")
        print(label, answer)
    except ClientError as error:
        print(label, error.response["Error"]["Code"], error.response["Error"]["Message"].strip())


def layers():
    ecr = client("ecr")
    where = {"repositoryName": "team/a"}
    created = ecr.create_repository(
        repositoryName="team/a",
        imageTagMutability="IMMUTABLE",
        imageScanningConfiguration={"scanOnPush": True},
        encryptionConfiguration={"encryptionType": "KMS", "kmsKey": "key"},
    )["repository"]
    print("created", created["repositoryArn"], created["imageTagMutability"], created["encryptionConfiguration"])
    content = b"0123456789abcdefg"
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    upload = ecr.initiate_layer_upload(**where)
    print("part size", upload["partSize"])
    where["uploadId"] = upload["uploadId"]

    def part(label, first, last, blob):
        try:
            answer = ecr.upload_layer_part(partFirstByte=first, partLastByte=last, layerPartBlob=blob, **where)
            print(label, answer["lastByteReceived"])
        except ClientError as error:
            print(label, error.response["Error"]["Code"], error.response.get("lastValidByteReceived"))

    def complete(label, digest):
        try:
            answer = ecr.complete_layer_upload(layerDigests=[digest], **where)
            print(label, answer["layerDigest"] == digest)
        except ClientError as error:
            print(label, error.response["Error"]["Code"])

    complete("nothing sent", digest)
    part("first part", 0, 9, content[:10])
    part("again", 0, 9, content[:10])
    part("gap", 12, 16, content[12:])
    part("wrong length", 10, 15, content[10:])
    part("last part", 10, 16, content[10:])
    complete("wrong digest", "sha256:" + "0" * 64)
    complete("complete", digest)
    complete("used up", digest)
    for label, parts in (("small part", ("abc", "defgh")), ("same layer", ("0123456789", "abcdefg")), ("too many", ("abcde",) * 4)):
        where["uploadId"] = ecr.initiate_layer_upload(repositoryName="team/a")["uploadId"]
        at, hashed = 0, hashlib.sha256()
        for blob in parts:
            part(label, at, at + len(blob) - 1, blob.encode())
            at, _ = at + len(blob), hashed.update(blob.encode())
        complete(label, "sha256:" + hashed.hexdigest())
    found = ecr.batch_check_layer_availability(repositoryName="team/a", layerDigests=[digest, "sha256:" + "0" * 64, "x"])
    print([layer["layerAvailability"] for layer in found["layers"]], [f["failureCode"] for f in found["failures"]])
    location = ecr.get_download_url_for_layer(repositoryName="team/a", layerDigest=digest)["downloadUrl"]
    import urllib.request

    print("downloaded", urllib.request.urlopen(location).read() == content)
    media = "application/vnd.oci.image."
    descriptor = '{"mediaType": "%s", "digest": "%s", "size": 17}'
    manifest = '{"schemaVersion": 2, "config": %s, "layers": [%s]}' % (
        descriptor % (media + "config.v1+json", digest),
        descriptor % (media + "layer.v1.tar", digest),
    )
    put = {"repositoryName": "team/a", "imageManifest": manifest, "imageManifestMediaType": media + "manifest.v1+json"}
    image = ecr.put_image(imageTag="1", **put)["image"]
    print("put", image["imageId"]["imageTag"], image["imageManifest"] == manifest)
    attempt("put again", ecr.put_image, imageTag="1", **put)
    digest = image["imageId"]["imageDigest"]
    got = ecr.batch_get_image(repositoryName="team/a", imageIds=[{"imageTag": "1"}, {"imageTag": "2"}])
    print("got", got["images"][0]["imageId"]["imageDigest"] == digest, got["failures"][0]["failureCode"])
    details = ecr.describe_images(repositoryName="team/a")["imageDetails"]
    print("described", details[0]["imageTags"], details[0]["imageDigest"] == digest)


def errors():
    ecr = client("ecr")
    token = ecr.get_authorization_token()["authorizationData"][0]
    print("token", token["proxyEndpoint"] == url, token["expiresAt"].tzinfo is not None)
    print("me", client("sts").get_caller_identity()["Arn"])
    print("registry", ecr.describe_registry()["registryId"])
    public = client("ecr-public", region_name="us-east-1").get_authorization_token()
    print("public", sorted(public["authorizationData"]))
    attempt("create", ecr.create_repository, repositoryName="team/a")
    attempt("describe", ecr.describe_repositories, repositoryNames=["team/a"])
    attempt("policy", ecr.get_lifecycle_policy, repositoryName="team/a")
    attempt("region", client("ecr", region_name="us-east-1").describe_registry)
    attempt("secret", client("ecr", aws_secret_access_key="x", aws_access_key_id=ecr._request_signer._credentials.access_key).describe_registry)
    attempt("key", client("ecr", aws_secret_access_key="x", aws_access_key_id="AKIAX").describe_registry)
    attempt("role", client("sts").assume_role, RoleArn="arn:aws:iam::123456789012:role/x", RoleSessionName="run")


def whoami():
    client("ecr").get_authorization_token()
    print(client("sts").get_caller_identity()["Arn"])


def web_identity():
    from botocore import UNSIGNED

    sts = boto3.client("sts", endpoint_url=url, config=Config(signature_version=UNSIGNED))
    where = {"RoleSessionName": "run", "RoleArn": "arn:aws:iam::123456789012:role/ci"}
    got = sts.assume_role_with_web_identity(WebIdentityToken="the token", **where)
    print("user", got["AssumedRoleUser"]["Arn"])
    key = got["Credentials"]
    as_role = {
        "aws_access_key_id": key["AccessKeyId"],
        "aws_secret_access_key": key["SecretAccessKey"],
        "aws_session_token": key["SessionToken"],
    }
    print("me", client("sts", **as_role).get_caller_identity()["Arn"])
    attempt("wrong token", sts.assume_role_with_web_identity, WebIdentityToken="another", **where)
    where["RoleArn"] = "arn:aws:iam::123456789012:role/pod"
    attempt("wrong role", sts.assume_role_with_web_identity, WebIdentityToken="the token", **where)
    as_role["aws_session_token"] = "x"
    attempt("wrong session", client("sts", **as_role).get_caller_identity)


{"layers": layers, "errors": errors, "whoami": whoami, "web-identity": web_identity}[case]()
