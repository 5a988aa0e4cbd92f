"""The documentation: its links lead somewhere, its reference is complete, its examples run."""

import contextlib
import doctest
import importlib
import inspect
import io
import re
from pathlib import Path

import docs_api
import docs_site
import pytest

from bireal_keras import recipes
from bireal_keras.training import preprocessing

ROOT = docs_site.ROOT
API = sorted((ROOT / "docs/api").glob("*.md"))
WRITTEN = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
# A block of code, and the text that it prints if that comes right after it.
EXAMPLE = re.compile(
    r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
)


def without_code(text: str) -> str:
    text = re.sub(r"^(```+).*?^\1\n", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]+`", "code", text)


def anchors(text: str) -> set[str]:
    """What the headings of a page can be linked by, as Python-Markdown makes it."""
    text = re.sub(r"^(```+).*?^\1\n", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading) for heading in words}


def broken_links(page: Path) -> list[str]:
    broken = []
    for target, anchor in re.findall(r"\]\(([^\s()#]*)(?:#([^\s()]+))?\)", page_text(page)):
        if ":" in target:
            continue
        other = page.parent / target if target else page
        if not other.is_file():
            broken.append(target)
        elif anchor and anchor not in anchors(other.read_text("utf-8")):
            broken.append(f"{target}#{anchor}")
    return broken


def page_text(page: Path) -> str:
    return without_code(page.read_text("utf-8"))


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


@pytest.mark.slow
def test_so_do_those_of_the_site(tmp_path):
    docs_site.assemble(tmp_path)
    pages = sorted(tmp_path.rglob("*.md"))
    assert len(pages) > len(WRITTEN)
    assert {
        page.relative_to(tmp_path): broken_links(page) for page in pages if broken_links(page)
    } == {}
    navigation = re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert len(navigation) > 20
    assert [page for page in navigation if not (tmp_path / page).is_file()] == []


def public_names(module) -> set[str]:
    if hasattr(module, "__all__"):
        return set(module.__all__)
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", API[1:], ids=lambda page: page.stem)
def test_every_public_name_has_its_reference_and_an_example(page):
    text = page.read_text("utf-8")
    module = text.partition("\n")[0].removeprefix("# ")
    referred = set(re.findall(r"^::: (\S+)$", text, flags=re.MULTILINE))
    wanted = {f"{module}.{name}" for name in public_names(importlib.import_module(module))}
    assert wanted - referred == set(), "a line `::: name` is missing, with an example below it"
    examples = re.sub(r"^:::.*$", "", text, flags=re.MULTILINE)
    unused = [name for name in referred if not re.search(rf"\b{name.split('.')[-1]}\b", examples)]
    assert unused == [], "the page says nothing of it but its docstring"
    for name in referred:
        assert "```python" in docs_api.reference(name)


@pytest.mark.slow
@pytest.mark.parametrize("page", API, ids=lambda page: page.stem)
def test_examples_do_what_they_say(page, tmp_path, monkeypatch):
    """In order, and in one namespace: a reader can paste the whole page."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text("utf-8")
    code = "".join(code for code, _ in EXAMPLE.findall(text))
    assert code
    assert "bireal_keras" in code.partition("import tensorflow")[0], "it chooses legacy Keras"
    checker, namespace = doctest.OutputChecker(), {}
    for code, expected in EXAMPLE.findall(text):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, str(page), "exec"), namespace)
        if expected:
            assert checker.check_output(expected, output.getvalue(), doctest.ELLIPSIS), (
                f"{code}\nprints\n{output.getvalue()}"
            )


def test_every_other_example_is_python():
    for page in WRITTEN:
        for code, _ in EXAMPLE.findall(page.read_text("utf-8")):
            compile(code, str(page), "exec")


def test_the_recipe_to_copy_is_one(tmp_path):
    (recipe,) = (
        code
        for code, _ in EXAMPLE.findall((ROOT / "docs/train.md").read_text("utf-8"))
        if "def get_config" in code
    )
    (tmp_path / "photos.py").write_text(recipe)
    config = recipes.load(tmp_path / "photos.py")
    recipes.check(config)
    preprocessing.create_augmentation(
        **config.dataset.augmentation, image_size=config.dataset.image_size
    )


def test_the_program_in_c_is_the_one_that_is_tested():
    program = (ROOT / "examples/run_model.cc").read_text("utf-8")
    excerpts = re.findall(
        r"^```cpp\n(.*?)^```", (ROOT / "docs/cpp.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert excerpts
    for excerpt in excerpts:
        assert excerpt in program


def test_commands_have_the_flags_that_pages_use():
    defined = set()
    for folder in ("bireal_keras", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            source = path.read_text("utf-8")
            defined |= set(re.findall(r"(?:DEFINE_\w+|define_path)\(\s*\"(\w+)\"", source))
            defined |= set(re.findall(r"DEFINE\(\s*\w+\(\),\s*\"(\w+)\"", source))
            defined |= set(re.findall(r"_choices\(\s*\"(\w+)\"", source))
    defined |= {"config", "flagfile", "help", "verbosity", "version"}
    for page in WRITTEN:
        text = page.read_text("utf-8").replace("\\\n", " ")
        for command in re.findall(r"\bbireal-[a-z]+ [^\n`|]*", text):
            used = {flag.split(".")[0] for flag in re.findall(r"--([a-z_.]+)", command)}
            assert used <= defined, f"{page.name}: {command}"


def test_a_target_that_pages_name_exists():
    makefiles = [ROOT / "Makefile", *(ROOT / "tools").glob("*/*.mk")]
    # In a pattern rule, `wheel-%`, the sign stands for anything.
    targets = "|".join(
        target.replace("%", r"\w+")
        for makefile in makefiles
        for target in re.findall(r"^([a-z0-9%-]+):", makefile.read_text("utf-8"), re.MULTILINE)
    )
    for page in WRITTEN:
        text = page.read_text("utf-8")
        used = re.findall(r"(?:^|`)make ([a-z0-9][\w-]*)", text, flags=re.MULTILINE)
        assert [name for name in used if not re.fullmatch(targets, name)] == [], page.name
