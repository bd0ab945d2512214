"""Text from outside, for outputs that cannot represent all of it.

Names from the kernel, the command line and file systems are bytes. Inside the program, bytes that are not
UTF-8 are lone surrogates (PEP 383), so that paths stay usable. D-Bus, metrics and terminals refuse
surrogates, so each text is converted where it leaves the program.
"""

import re

NO_UTF8 = re.compile("[\0\ud800-\udfff]")  # NUL is UTF-8, but no D-Bus string may have one


def utf8(text: str) -> str:
    """For programs: bytes that are not UTF-8 become \\xHH."""
    return NO_UTF8.sub(_escaped, text)


def printable(text: str) -> str:
    """For people: also escapes control characters, by which a name could forge a line or move a terminal's
    cursor."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escaped(found: re.Match[str]) -> str:
    return _escape(found[0])


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
