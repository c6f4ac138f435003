"""
Prepare lines of other programs for a terminal: secrets are blanked out, and nothing moves the cursor.

Everything that may be a secret is blanked out. If a line then shows too little, look into the log itself. The program
chose the length of the line, so each pattern is bounded or takes all that it looked at: the time is linear in the
length.
"""

import re

from galaxy_host_pattern import Pattern
from galaxy_host_secret import MASK

_LONGEST = 4096
# a setting, variable, header or field whose name has one of these parts holds a secret
_NAMES = (
    "pass(?:word|wd|phrase|code)|pwd|secret|token|credential|authori[sz]ation|cookie|session|signature"
    "|(?:api|access|private|encryption|master|vault)[-_ ]?key|(?<![a-z])auth(?![a-z])"
    "|(?<![a-z0-9_-])key(?![a-z0-9_-])"
)
# a quote alone or escaped, as in JSON within JSON
_QUOTE = r"\\{0,3}[\"']"
# until the same quote comes again, or the line ends
_QUOTED = (
    r"[bru]{0,2}(?P<escaped>\\{1,3}[\"'])(?:(?!(?P=escaped)).)*(?:(?P=escaped))?"
    r"|[bru]{0,2}\"(?:[^\"\\]|\\.)*[\"\\]?"
    r"|[bru]{0,2}'(?:[^'\\]|\\.)*['\\]?"
)
# name=value, "name": "value", name: value, ('name', 'value'), <name>value</name>; a value behind a blank may have more
_FIELD = Pattern(
    rf"((?:{_NAMES})[\w.-]{{0,40}}(?:{_QUOTE}\]?[ \t]{{0,8}}(?:=>|:=|[=:,])|\]?[ \t]{{0,8}}(?:=>|:=|[=:])))"
    rf"(?:[ \t]*(?:{_QUOTED})|(?P<blank>[ \t]+)\S.*|\S+)",
    re.IGNORECASE,
)
_ELEMENT = Pattern(rf"(<(?:[\w.:-]{{0,40}}?)(?:{_NAMES})[\w.-]{{0,40}}>)[^<]+", re.IGNORECASE)
_OPTION = Pattern(rf"((?<![\w-])--[\w-]{{0,40}}?(?:{_NAMES})[\w-]{{0,40}}[ \t]{{1,8}})(?:{_QUOTED}|\S+)", re.IGNORECASE)
_SCHEME = Pattern(
    r"\b(bearer[ \t]{1,8}|(?:basic|digest|negotiate|token)[ \t]{1,8}(?=\S*[\d+/=_~]|\S{16}))\S+", re.IGNORECASE
)
_QUERY = Pattern(r"\?[^\s\"'<>?]+")
# a line of a PEM key
_BLOCK = Pattern(r"\s*[A-Za-z0-9+/=]{60,}\s*")
_COLOURS = Pattern(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
# control characters, and characters that turn the direction of text or end a line
_UNPRINTABLE = Pattern("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def blank(line: str) -> str:
    """The line, of at most 4096 characters, with asterisks for everything that may be a secret."""
    line = printable(line)
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
    if _BLOCK.fullmatch(line):
        return MASK
    line = "".join(_blank_url(piece) if "://" in piece else piece for piece in re.split(r"(\s+)", line))
    line = _FIELD.sub(lambda match: f"{match[1]}{' ' if match['blank'] else ''}{MASK}", line)
    line = _ELEMENT.sub(rf"\1{MASK}", line)
    line = _OPTION.sub(rf"\1{MASK}", line)
    line = _SCHEME.sub(rf"\1{MASK}", line)
    return _QUERY.sub(f"?{MASK}", line)


def printable(text: str) -> str:
    """
    The text as one line, without colours. A character that would move the cursor or turn the direction of text is shown
    as its code.
    """
    return _UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], _COLOURS.sub("", text))


def _blank_url(piece: str) -> str:
    """
    The URL without its password. This reaches from the first colon behind ``://`` to the last @, because a password may
    have both.
    """
    scheme, _, rest = piece.partition("://")
    login, at, host = rest.rpartition("@")
    if not at:
        return piece
    user, colon, _ = login.partition(":")
    return f"{scheme}://{user if colon else ''}{colon}{MASK}@{host}"
