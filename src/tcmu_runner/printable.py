"""Text from outside, for those that cannot take each of it.

What the kernel, the command line and file systems call names is bytes. Within the program those that are no
UTF-8 are lone surrogates (PEP 383), so that a path leads where it did; D-Bus, metrics and a terminal refuse
them, and each text is made good where it leaves the program.
"""

import re

NO_UTF8 = re.compile("[\0\ud800-\udfff]")  # NUL is UTF-8, but no D-Bus string may have one


def utf8(text: str) -> str:
    """For programs: bytes that are no UTF-8 as \\xHH; all else is as it was."""
    return NO_UTF8.sub(_escaped, text)


def printable(text: str) -> str:
    """For a line that people read: control characters, too, of which one could forge a line or move a
    terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escaped(found: re.Match[str]) -> str:
    return _escape(found[0])


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
