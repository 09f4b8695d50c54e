"""A claim's own lines of its spec file."""

from __future__ import annotations

from pathlib import Path


def excerpt(path: Path, line: int) -> str:
    """Return the lines of the claim that stands at `line` of a spec file, without their indentation.

    They end where the next item of the list begins, or where the list does; comments before the next item are left
    out. Empty if the file is not there any more, is no text, or has no such line.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    first = next((i for i in range(min(line, len(lines)) - 1, -1, -1) if lines[i].lstrip().startswith("-")), None)
    if first is None or line > len(lines):
        return ""
    indent = len(lines[first]) - len(lines[first].lstrip())
    found = [lines[first]]
    for text in lines[first + 1 :]:
        if text.strip() and len(text) - len(text.lstrip()) <= indent:
            break
        found.append(text)
    while found and (not found[-1].strip() or found[-1].lstrip().startswith("#")):
        found.pop()
    return "\n".join(text[indent:] for text in found)
