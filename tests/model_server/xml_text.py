"""XML as S3 speaks it: small renderers and a parser that ignores the namespace."""

import urllib.parse
from datetime import datetime
from email.utils import format_datetime
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from tests.model_server.config import Credentials
from tests.model_server.errors import S3Error
from tests.model_server.wire import Response

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def node(name: str, value: str | int | bool) -> str:
    """An element with text."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"<{name}>{escape(text, {chr(13): '&#13;'})}</{name}>"


def tree(name: str, *children: str) -> str:
    """An element with rendered children."""
    return f"<{name}>{''.join(children)}</{name}>"


def person(name: str, who: Credentials) -> str:
    """An Owner or Initiator element."""
    return tree(name, node("ID", who.canonical_id), node("DisplayName", who.display_name))


def document(name: str, *children: str) -> Response:
    """An answer whose body is an S3 XML document."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{name} xmlns="{NAMESPACE}">{"".join(children)}</{name}>'
    return Response(headers={"Content-Type": "application/xml"}, body=body.encode("utf-8"))


def document_of_text(name: str, text: str) -> Response:
    """An answer whose root element holds nothing but text."""
    return document(name, escape(text))


def error_document(error: S3Error, resource: str) -> Response:
    """The answer for a refusal."""
    fields = {"Code": error.code, "Message": error.message, "Resource": resource, **error.fields}
    body = '<?xml version="1.0" encoding="UTF-8"?>\n' + tree("Error", *(node(*item) for item in fields.items()))
    headers = {"Content-Type": "application/xml", **error.headers}
    return Response(error.status, headers, body.encode("utf-8"), error_code=error.code)


def parse(data: bytes, root: str) -> ET.Element:
    """The root of a request document, without namespaces; raises MalformedXML."""
    try:
        found = ET.fromstring(data)
    except ET.ParseError as exc:
        raise S3Error("MalformedXML", "The XML you provided was not well-formed.") from exc
    for element in found.iter():
        element.tag = element.tag.rpartition("}")[2]
    if found.tag != root:
        raise S3Error("MalformedXML", f"The XML you provided is not a {root}.")
    return found


def text_of(element: ET.Element, name: str, default: str = "") -> str:
    """The stripped text of a child."""
    return (element.findtext(name) or default).strip()


def number_of(element: ET.Element, name: str) -> int:
    """The number in a child; raises MalformedXML."""
    text = text_of(element, name)
    if not (text.isascii() and text.isdigit()):
        raise S3Error("MalformedXML", f"{name} is not a number.")
    return int(text)


def iso_time(moment: datetime) -> str:
    """A time in listings."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def http_time(moment: datetime) -> str:
    """A time in headers."""
    return format_datetime(moment, usegmt=True)


def key_text(key: str, encoding: str) -> str:
    """A key in a listing, percent-encoded when the client asked for it."""
    return urllib.parse.quote(key, safe="/-_.~*") if encoding == "url" else key


def encoding_of(value: str) -> str:
    """The encoding type of a listing; raises InvalidArgument."""
    if value not in ("", "url"):
        raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request")
    return value
