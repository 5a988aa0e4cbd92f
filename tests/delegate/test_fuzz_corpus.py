"""Graphs and options that a fuzzer found worth keeping: refused or run, never a crash.

`make fuzz` looks for more. What it finds to reach new code joins them by
``_build/fuzz/fuzz -merge=1 -use_counters=0 tests/delegate/corpus _build/fuzz/corpus``.
"""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

# Its program takes twenty seconds to compile.
pytestmark = pytest.mark.proof

SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FLAGS = ["-std=c++17", "-O0", "-g", "-ffp-contract=off", "-pthread", *SANITIZERS]


@pytest.fixture(scope="module")
def replay(repository, tmp_path_factory):
    """The fuzzed function in a program that takes files as arguments."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        pytest.skip(f"needs a C++ compiler, and there is no {compiler}")
    folder = tmp_path_factory.mktemp("replay")

    def compile_(*arguments):
        return subprocess.run(
            [compiler, *arguments], cwd=repository, capture_output=True, text=True, timeout=600
        )

    # Without the sanitizers' libraries, which are packages of their own, a read out of bounds
    # would pass unseen: better no test than one that seems to look.
    probe = folder / "probe.cc"
    probe.write_text("int main() {}")
    result = compile_(*SANITIZERS, str(probe), "-o", str(folder / "probe"))
    if result.returncode != 0:
        pytest.skip(f"{compiler} has no sanitizers here: {result.stderr.strip()[-200:]}")

    delegate = repository / "delegate"
    testing = delegate / "testing"
    sources = [path for path in delegate.rglob("*.cc") if testing not in path.parents]
    sources += [testing / f"{name}.cc" for name in ("fuzz", "fuzz_main", "graph", "interpreter")]

    def compile_object(source):
        target = folder / f"{source.relative_to(delegate)}.o".replace("/", "_")
        result = compile_(*FLAGS, "-I.", "-c", str(source), "-o", str(target))
        assert result.returncode == 0, result.stderr
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_object, sources))
    program = folder / "replay"
    result = compile_(*FLAGS, *objects, "-o", str(program))
    assert result.returncode == 0, result.stderr
    return program


def test_the_corpus_replays(replay, repository):
    corpus = sorted(str(path) for path in (repository / "tests/delegate/corpus").iterdir())
    assert len(corpus) > 100
    result = subprocess.run([replay, *corpus], capture_output=True, text=True, timeout=300)
    # A program that died names the file last.
    assert result.returncode == 0, (result.stdout.splitlines()[-1:], result.stderr[-5000:])
    assert result.stdout.splitlines() == corpus


def test_a_crash_would_be_seen(replay, tmp_path):
    """The program does read its files: one that is not there is an error."""
    result = subprocess.run([replay, str(tmp_path / "missing")], capture_output=True, text=True)
    assert result.returncode == 1
    assert "cannot be read" in result.stderr


def test_the_program_has_sanitizers(replay):
    symbols = replay.read_bytes()
    assert b"__asan_init" in symbols
    assert b"__ubsan_handle" in symbols
