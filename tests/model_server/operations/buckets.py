"""Operations on buckets and their configuration."""

from tests.model_server.errors import S3Error
from tests.model_server.exchange import Exchange
from tests.model_server.state import AbortRule, Versioning
from tests.model_server.wire import Response
from tests.model_server.xml_text import (
    document,
    document_of_text,
    iso_time,
    node,
    number_of,
    parse,
    person,
    text_of,
    tree,
)


def admit_existing(ex: Exchange) -> None:
    """The bucket exists."""
    ex.world.store.bucket(ex.bucket)


def list_buckets(ex: Exchange) -> Response:
    """All buckets of the server."""
    found = [
        tree("Bucket", node("Name", item.name), node("CreationDate", iso_time(item.created)))
        for item in ex.world.store.buckets()
    ]
    return document("ListAllMyBucketsResult", person("Owner", ex.world.owner), tree("Buckets", *found))


def create_bucket(ex: Exchange) -> Response:
    """A new bucket in the server's region."""
    if ex.body.data:
        place = text_of(parse(ex.body.data, "CreateBucketConfiguration"), "LocationConstraint")
        if place != ex.world.region:
            raise S3Error("IllegalLocationConstraintException", f"The {place} location constraint is not served here.")
    ex.world.store.create_bucket(ex.bucket)
    return Response(headers={"Location": f"/{ex.bucket}"})


def head_bucket(ex: Exchange) -> Response:
    """Whether the bucket exists."""
    ex.world.store.bucket(ex.bucket)
    return Response(headers={"x-amz-bucket-region": ex.world.region})


def get_location(ex: Exchange) -> Response:
    """The region, which is empty for us-east-1."""
    ex.world.store.bucket(ex.bucket)
    region = ex.world.region
    return document_of_text("LocationConstraint", "" if region == "us-east-1" else region)


def delete_bucket(ex: Exchange) -> Response:
    """Remove an empty bucket."""
    ex.world.store.delete_bucket(ex.bucket)
    return Response(204)


def put_versioning(ex: Exchange) -> Response:
    """Enable or suspend versioning."""
    status = text_of(parse(ex.body.data, "VersioningConfiguration"), "Status")
    states: dict[str, Versioning] = {"Enabled": "Enabled", "Suspended": "Suspended"}
    if status not in states:
        raise S3Error("MalformedXML", "Status must be Enabled or Suspended.")
    ex.world.store.bucket(ex.bucket).versioning = states[status]
    return Response()


def get_versioning(ex: Exchange) -> Response:
    """The versioning state; an unversioned bucket has none."""
    status = ex.world.store.bucket(ex.bucket).versioning
    return document("VersioningConfiguration", *([node("Status", status)] if status else []))


def put_lifecycle(ex: Exchange) -> Response:
    """Replace the rules; only the abort of incomplete uploads is modelled."""
    if ex.declared is None and "content-md5" not in ex.head.headers:
        raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
    rules = []
    for rule in parse(ex.body.data, "LifecycleConfiguration").findall("Rule"):
        abort = rule.find("AbortIncompleteMultipartUpload")
        if abort is None or rule.find("Expiration") is not None or rule.find("Transition") is not None:
            raise S3Error("NotImplemented", "Only AbortIncompleteMultipartUpload is modelled.")
        prefix = text_of(rule, "Filter/Prefix") or text_of(rule, "Prefix")
        days = number_of(abort, "DaysAfterInitiation")
        rules.append(AbortRule(text_of(rule, "ID", "rule"), prefix, days, text_of(rule, "Status") == "Enabled"))
    if not rules:
        raise S3Error("MalformedXML", "A lifecycle configuration needs a rule.")
    ex.world.store.bucket(ex.bucket).abort_rules = tuple(rules)
    return Response()


def get_lifecycle(ex: Exchange) -> Response:
    """The rules, or NoSuchLifecycleConfiguration."""
    rules = ex.world.store.bucket(ex.bucket).abort_rules
    if not rules:
        raise S3Error("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")
    return document("LifecycleConfiguration", *(_rule_tree(rule) for rule in rules))


def _rule_tree(rule: AbortRule) -> str:
    return tree(
        "Rule",
        node("ID", rule.rule_id),
        tree("Filter", node("Prefix", rule.prefix)),
        node("Status", "Enabled" if rule.enabled else "Disabled"),
        tree("AbortIncompleteMultipartUpload", node("DaysAfterInitiation", rule.days)),
    )
