"""Keys that something on the way is tempted to change: quoting, paths, XML, Unicode."""

from __future__ import annotations

from collections.abc import Mapping

ODD_KEYS: Mapping[str, str] = {
    "plus": "plus+plus",
    "space": "two words ",
    "percent": "50%",
    "encoded": "50%25 and %2F",
    "query": "what?versionId=x",
    "fragment": "a#b&c=d;e",
    "nfc": "gr\u00f6\u00dfe/\u6587\u4ef6",
    "nfd": "gro\u0308\u00dfe",
    "emoji": "\U0001f642\u200d\U0001f3fd",
    "control": "\x01\x1f\x7f",
    "newline": "line\nbreak",
    "return": "carriage\rreturn\r\n",
    "tab": "tab\there",
    "leading": "/leading",
    "double": "a//b",
    "trailing": "trailing/",
    "dots": "a/./b/../c",
    "dot": ".",
    "dotdot": "a/..",
    "quotes": "quote'\"`",
    "backslash": "back\\slash",
    "xml": "<&>]]>&amp;",
    "rest": "tilde~!*()@:,;$=[]{}|^",
    "uri": "s3://inside/key",
    "long": "x" * 1024,
    "long-utf8": "\u00e9" * 512,
}
