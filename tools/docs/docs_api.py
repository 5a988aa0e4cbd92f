"""Reads the API reference out of the sources: the signature and the docstring of a public name.

    reference("bireal_keras.quantizers.ApproxSign")  # Markdown

Sources are parsed and not imported, so that the documentation is built without TensorFlow.
"""

import ast
import dataclasses
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LINE = 80  # Longer signatures get a line for each argument.

# Sections of Google's docstrings that list `name: meaning`, and those that are text.
_LISTS = ("Args", "Attributes", "Raises")
_TEXTS = ("Returns", "Yields")
_CODE = "Example"


@dataclasses.dataclass(frozen=True)
class _Definition:
    """A class or function and the file that it stands in."""

    node: ast.ClassDef | ast.FunctionDef
    module: str

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or ""

    def text(self, node: ast.AST) -> str:
        """A part of it, as it stands in the source but in one line."""
        return " ".join((ast.get_source_segment(_source(self.module), node) or "").split())

    def annotation(self, node: ast.expr) -> str:
        """A type; some are strings, since they are not imported."""
        return self.text(node).strip('"')


def reference(name: str) -> str:
    """What a page says about a class or function, under a heading of the third level.

    Raises:
        ValueError: there is no such name, or it has no docstring.
    """
    definition = _find(name)
    parts = [_entry(definition.node.name, definition, "###")]
    if isinstance(definition.node, ast.ClassDef):
        short = definition.node.name
        for member in _members(definition):
            parts.append(_entry(f"{short}.{member.node.name}", member, "####"))
    return "\n\n".join(parts)


def _entry(name: str, definition: _Definition, heading: str) -> str:
    if not definition.doc:
        raise ValueError(f"{name} must have a docstring.")
    return "\n\n".join(
        [
            f"{heading} `{name}`",
            f"```python\n{_signature(name.rpartition('.')[2], definition)}\n```",
            markdown(definition.doc),
        ]
    )


def _find(name: str) -> _Definition:
    module, _, attribute = name.rpartition(".")
    try:
        tree = _tree(module)
    except FileNotFoundError:
        raise ValueError(f"There is no module {module!r}, in which to find {name!r}.") from None
    for node in reversed(tree.body):  # A function comes after its overloads.
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == attribute:
            return _Definition(node, module)
    # They may be anywhere: some packages import on first use, and for type checkers.
    for imported in ast.walk(tree):
        if isinstance(imported, ast.ImportFrom) and imported.module:
            for alias in imported.names:
                if (alias.asname or alias.name) == attribute:
                    return _find(f"{imported.module}.{alias.name}")
    raise ValueError(f"There is no class or function {name!r}.")


def _path(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _source(module: str) -> str:
    return _path(module).read_text(encoding="utf-8")


def _tree(module: str) -> ast.Module:
    return ast.parse(_source(module))


def _members(definition: _Definition) -> Iterator[_Definition]:
    """Public methods and properties with docstrings; what overrides Keras's has none."""
    for node in definition.node.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            member = _Definition(node, definition.module)
            if member.doc:
                yield member


def _signature(name: str, definition: _Definition) -> str:
    node = definition.node
    if isinstance(node, ast.ClassDef):
        return f"class {_call(name, _constructor(definition), '')}"
    decorators = [definition.text(decorator) for decorator in node.decorator_list]
    if "property" in decorators:
        return f"{name}: {definition.annotation(node.returns)}" if node.returns else name
    result = f" -> {definition.annotation(node.returns)}" if node.returns else ""
    template = next((d for d in node.decorator_list if _is_with_arguments_of(d)), None)
    if template is not None:
        like = _find(f"{definition.module}.{definition.text(template.args[0])}")
        return _call(name, _arguments(like), result)
    return _call(name, _arguments(definition), result)


def _is_with_arguments_of(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith(
        "with_arguments_of"
    )


def _constructor(definition: _Definition) -> list[str]:
    for node in definition.node.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return _arguments(_Definition(node, definition.module))
    if any("dataclass" in definition.text(d) for d in definition.node.decorator_list):
        fields = [node for node in definition.node.body if isinstance(node, ast.AnnAssign)]
        return [definition.text(field) for field in fields]
    return []


def _arguments(definition: _Definition) -> list[str]:
    arguments = definition.node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    result = [
        _argument(definition, argument, default)
        for argument, default in zip(positional, defaults)
        if argument.arg not in ("self", "cls")
    ]
    if arguments.vararg:
        result.append("*" + _argument(definition, arguments.vararg, None))
    elif arguments.kwonlyargs:
        result.append("*")
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        result.append(_argument(definition, argument, default))
    if arguments.kwarg:
        result.append("**" + _argument(definition, arguments.kwarg, None))
    return result


def _argument(definition: _Definition, argument: ast.arg, default: ast.expr | None) -> str:
    text = argument.arg
    if argument.annotation is not None:
        text += f": {definition.annotation(argument.annotation)}"
    if default is not None:
        text += f" = {definition.text(default)}"
    return text


def _call(name: str, arguments: list[str], result: str) -> str:
    line = f"{name}({', '.join(arguments)}){result}"
    if len(line) <= _LINE:
        return line
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){result}"])


def markdown(doc: str) -> str:
    """A docstring of Google's style in Markdown."""
    parts = []
    for title, body in _sections(doc):
        if title is None:
            parts.append(body)
        elif title in _TEXTS:
            parts.append(f"**{title}:** {body}")
        elif title == _CODE:
            parts.append(f"**{title}:**\n\n```python\n{body}\n```")
        else:
            parts.append(f"**{title}:**\n\n{_list(body)}")
    return "\n\n".join(parts)


def _sections(doc: str) -> Iterator[tuple[str | None, str]]:
    title, lines = None, []
    for line in [*doc.splitlines(), "End:"]:
        match = re.fullmatch(rf"({'|'.join([*_LISTS, *_TEXTS, _CODE, 'End'])}):", line)
        if title is not None and line and not line.startswith(" ") and match is None:
            # Text goes on after a section.
            yield title, textwrap.dedent("\n".join(lines)).strip()
            title, lines = None, []
        if match is None:
            lines.append(line)
            continue
        if "".join(lines).strip():
            yield title, textwrap.dedent("\n".join(lines)).strip()
        title, lines = match[1], []


def _list(body: str) -> str:
    """`name: meaning`, with what is indented below it, as items."""
    items = []
    for line in body.splitlines():
        match = re.match(r"(\*{0,2}[A-Za-z_][\w., *]*): ", line)
        items.append(f"- `{match[1]}`: {line[match.end() :]}" if match else line)
    return "\n".join(items)
