"""docs/binarize.md: its example runs, and its reasons are those that the code gives."""

import contextlib
import doctest
import io
import re

from bireal_keras.export.binarize import reasons

EXAMPLE = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def test_example_prints_what_the_page_says(repository, tmp_path, monkeypatch):
    examples = EXAMPLE.findall((repository / "docs/binarize.md").read_text("utf-8"))
    assert len(examples) == 3
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for code, expected in examples:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, "binarize.md", "exec"), namespace)
        lines = output.getvalue().splitlines(keepends=True)
        printed = "".join(line for line in lines if not line.startswith(("Saved", "*", "  ", "\n")))
        assert doctest.OutputChecker().check_output(expected, printed, 0), printed


def test_every_reason_is_on_the_page(repository):
    source = (repository / "export/binarize/reasons.py").read_text("utf-8")
    codes = set(re.findall(r'^    "([a-z_]+)",$', source, re.MULTILINE)) | {"more_bits", "pooled"}
    codes |= {value.code for value in vars(reasons).values() if isinstance(value, reasons.Reason)}
    assert len(codes) > 10
    page = (repository / "docs/binarize.md").read_text("utf-8")
    assert {code for code in codes if f"`{code}`" not in page} == set()
