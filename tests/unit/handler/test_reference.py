"""The generated parts of the pages on handlers and filters."""

from tcmu_runner.filters.readonly import ReadOnly
from tcmu_runner.handler import reference
from tcmu_runner.handlers.null import NullHandler


def indented(text: str) -> str:
    return "".join(f"    {line}".rstrip() + "\n" for line in text.splitlines())


def test_each_handler_has_a_section_with_its_description() -> None:
    page = reference.handlers()
    assert f"## null\n\n{indented(NullHandler.describe())}" in page
    names = [line for line in page.splitlines() if line.startswith("## ")]
    assert names == sorted(names)
    assert {"## file", "## ram"} <= set(names)


def test_each_filter_has_a_section_with_its_description() -> None:
    assert f"## readonly\n\n{indented(ReadOnly.describe())}" in reference.filters()
