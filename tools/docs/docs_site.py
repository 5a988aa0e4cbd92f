"""Puts the pages of the documentation together, for the site's builder to read.

    python tools/docs/docs_site.py FOLDER

What is written by hand is Markdown: docs/, and beside it README.md, which becomes the first
page, CHANGELOG.md and CONTRIBUTING.md. Here they get what a site needs more:

- a line `::: bireal_keras.export.convert` becomes that name's signature and docstring;
- a file of the repository that a page links to becomes a page itself, so that no link leaves
  the site, wherever the repository is.

Links are checked by the builder.
"""

import os
import re
import shutil
import sys
from pathlib import Path, PurePosixPath

import docs_api

ROOT = docs_api.ROOT
_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
# What the pages look like, and what lets them be searched on a disk.
_ASSETS = ("site.css", "iframe-worker.js")
_LANGUAGES = {
    ".cc": "cpp",
    ".csv": "",
    ".h": "cpp",
    ".json": "json",
    ".py": "python",
    ".sh": "bash",
}
_REFERENCE = re.compile(r"^::: (\S+)$", re.MULTILINE)
# Matches [text](target#anchor) and ![text](target "title"): what is before the target, and it.
LINK = re.compile(r"(\]\()([^\s()#]+)")


def assemble(folder: Path) -> None:
    """Writes all pages into a folder, which is emptied first.

    Raises:
        ValueError: a page links to what is not a file of the repository, or refers to a name
            that does not exist.
    """
    shutil.rmtree(folder, ignore_errors=True)
    sources = {ROOT / name: page for name, page in _PAGES.items()}
    for path in sorted((ROOT / "docs").rglob("*")):
        if path.is_file():
            sources[path] = path.relative_to(ROOT / "docs").as_posix()
    linked: dict[Path, str] = {}
    for path, page in sources.items():
        target = folder / page
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".md":
            shutil.copyfile(path, target)
            continue
        text = _REFERENCE.sub(lambda match: docs_api.reference(match[1]), path.read_text("utf-8"))
        target.write_text(_with_links(text, path, page, sources, linked), "utf-8")
    for name in _ASSETS:
        shutil.copyfile(Path(__file__).with_name(name), folder / name)
    for path, page in linked.items():
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        (folder / page).write_text(_listing(path), "utf-8")


def _with_links(
    text: str, path: Path, page: str, sources: dict[Path, str], linked: dict[Path, str]
) -> str:
    """A page's text with links to other pages; adds to `linked` what has to become one."""

    def rewrite(match: re.Match[str]) -> str:
        if ":" in match[2]:  # https:, mailto:
            return match[0]
        target = Path(os.path.normpath(path.parent / match[2]))
        if not target.is_file() or ROOT not in target.parents:
            raise ValueError(
                f"{path.relative_to(ROOT)}: a link must lead to a file of the repository. "
                f"Received: {match[2]}."
            )
        if target not in sources:
            linked[target] = f"source/{target.relative_to(ROOT).as_posix()}.md"
        other = sources.get(target) or linked[target]
        return match[1] + os.path.relpath(other, PurePosixPath(page).parent)

    # Code stays as it is.
    parts = re.split(r"(^```.*?^```$|`[^`\n]+`)", text, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [LINK.sub(rewrite, part) for part in parts[::2]]
    return "".join(parts)


def _listing(path: Path) -> str:
    """The page of a source file."""
    language = _LANGUAGES.get(path.suffix, "")
    code = path.read_text("utf-8").rstrip("\n")
    return f"# {path.relative_to(ROOT).as_posix()}\n\n````{language}\n{code}\n````\n"


if __name__ == "__main__":
    assemble(Path(sys.argv[1]))
