"""The package as a whole: what importing it does, what is installed, what the commands say."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bireal_keras
from bireal_keras import export, runtime, tflite
from bireal_keras.runtime import live

SCRIPTS = [
    entry_point
    for entry_point in metadata.distribution("bireal-keras").entry_points
    if entry_point.group == "console_scripts"
]
COMMANDS = [script for script in SCRIPTS if script.name != "bireal"]


def python(code, **environment):
    """Runs code in a fresh Python that has not decided about Keras: status, output, errors."""
    inherited = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**inherited, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )
    return result.returncode, result.stdout.strip(), result.stderr.strip()


@pytest.mark.slow
class TestLegacyKeras:
    def test_imported_before_tensorflow_it_chooses_legacy_keras(self):
        status, out, err = python(
            "import bireal_keras\n"
            "import tensorflow as tf\n"
            "print(tf.keras.Model.__module__.split('.')[0])\n"
            "print(bireal_keras.zoo.BiRealNet18(width=1, num_classes=2).name)\n",
            TF_USE_LEGACY_KERAS="0",
        )
        assert status == 0, err
        assert out.split() == ["tf_keras", "BiRealNet18"]

    def test_tensorflow_first_under_keras_3_says_what_to_do(self):
        status, out, err = python(
            "import tensorflow as tf\n"
            "import bireal_keras\n"
            "import bireal_keras.runtime\n"
            "print(tf.keras.Model.__module__.split('.')[0])\n"
            "try:\n"
            "    bireal_keras.zoo\n"
            "except ImportError as error:\n"
            "    print(error)\n"
        )
        assert status == 0, err
        package, message = out.splitlines()
        assert package == "keras"
        assert "imported with Keras 3 before bireal_keras" in message
        assert "import bireal_keras before tensorflow" in message
        assert "TF_USE_LEGACY_KERAS=1 before Python starts" in message

    def test_tensorflow_first_under_legacy_keras_is_fine(self):
        status, out, err = python(
            "import tensorflow as tf\n"
            "import bireal_keras\n"
            "print(bireal_keras.zoo.BiRealNet18.__name__)\n",
            TF_USE_LEGACY_KERAS="1",
        )
        assert status == 0, err
        assert out == "BiRealNet18"


# It makes the import of packages fail as if they were not installed.
HIDE = """
import sys, types
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
"""

# This little of TensorFlow and tf-keras is looked at before Larq is imported.
PRETEND = """
keras = types.SimpleNamespace(Model=object)
sys.modules["tensorflow"] = types.SimpleNamespace(__version__="2.21.0", keras=keras)
"""


class TestMissingPackages:
    def message(self, code):
        status, out, err = python(
            f"{code}\n"
            "import bireal_keras\n"
            "try:\n"
            "    bireal_keras.quantizers\n"
            "except ImportError as error:\n"
            "    print(error)\n"
        )
        assert status == 0, err
        return out

    def test_tensorflow(self):
        message = self.message(HIDE.format(hidden=["tensorflow"]))
        assert "needs TensorFlow, which is not installed" in message
        assert "pip install 'bireal-keras[tensorflow]'" in message
        assert "bireal_keras.runtime works without it" in message

    def test_tf_keras(self):
        message = self.message(HIDE.format(hidden=["tf_keras"]) + PRETEND)
        assert "tf-keras of the same minor version as TensorFlow 2.21.0" in message
        assert "pip install 'bireal-keras[tensorflow]'" in message

    @pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
    def test_larq(self, version):
        """Where the extra does not bring Larq, it brings what Larq needs."""
        pretend = PRETEND + 'sys.modules["tf_keras"] = keras\n'
        pretend += f"sys.version_info = ({version.replace('.', ', ')}, 1, 'final', 0)\n"
        message = self.message(HIDE.format(hidden=["larq"]) + pretend)
        assert "needs Larq, which is not installed" in message
        names = wanted("tensorflow", version)
        assert {"packaging", "terminaltables", "numpy"} <= names
        assert ("'bireal-keras[tensorflow]'" in message) == ("larq" in names)
        assert ("pip install --no-deps larq." in message) == ("larq" not in names)

    def test_no_tensorflow_on_a_python_that_it_has_no_wheel_for(self):
        pretend = "sys.version_info = (3, 14, 1, 'final', 0)\n"
        message = self.message(HIDE.format(hidden=["tensorflow"]) + pretend)
        assert "it has no wheel for Python 3.14 yet; take Python 3.10 to 3.13" in message


DEVICE_MODULES = sorted(
    [
        *(f"runtime.{path.stem}" for path in Path(runtime.__file__).parent.glob("*.py")),
        *(f"runtime.live.{path.stem}" for path in Path(live.__file__).parent.glob("*.py")),
        *(f"tflite.{path.stem}" for path in Path(tflite.__file__).parent.glob("*.py")),
        *(
            f"commands.{name}"
            for name in ("__main__", "bench", "classify", "cost", "evaluate", "live")
        ),
        *("evaluation", "pictures", "training.image_folder", "training.run_folder"),
    ]
)


@pytest.mark.slow
@pytest.mark.parametrize("module", DEVICE_MODULES)
def test_a_device_needs_no_tensorflow(module):
    status, _, err = python(
        HIDE.format(hidden=["tensorflow", "tf_keras", "keras", "larq", "larq_compute_engine"])
        + f"import bireal_keras.{module}\n"
        "assert not {'tensorflow', 'tf_keras', 'keras', 'larq'} & set(sys.modules)\n"
    )
    assert status == 0, err


@pytest.mark.slow
def test_only_one_module_imports_lce():
    folder = Path(export.__file__).parent
    modules = sorted(
        ".".join(p.relative_to(folder).with_suffix("").parts)
        for p in folder.rglob("*.py")
        if p.stem not in ("_lce", "__init__")
    )
    assert len(modules) > 20
    imports = "".join(f"import bireal_keras.export.{module}\n" for module in modules)
    status, _, err = python(HIDE.format(hidden=["larq_compute_engine"]) + imports)
    assert status == 0, err


@pytest.mark.proof
@pytest.mark.parametrize(
    "imports",
    [
        "import bireal_keras; import tensorflow as tf",
        "import bireal_keras, tf_keras; import tensorflow as tf",
        "import tf_keras, bireal_keras; import tensorflow as tf",
        "from bireal_keras import quantizers; import tensorflow as tf",
    ],
)
def test_keras_itself_loads_our_models(tmp_path, imports):
    """Whatever is imported first, and without a model function being called."""
    from bireal_keras import zoo

    path = tmp_path / "model.keras"
    model = zoo.ReActBiRealNet18(input_shape=(8, 8, 3), num_classes=3, width=2, stem="cifar")
    model.save(path)
    status, out, err = python(
        "import os\nos.environ['TF_USE_LEGACY_KERAS'] = '1'\n"
        f"{imports}\n"
        f"print(tf.keras.models.load_model({str(path)!r}).count_params())\n"
    )
    assert status == 0, err
    assert int(out) == model.count_params()


@pytest.mark.slow
def test_without_larq_keras_is_imported_as_ever():
    status, out, err = python(
        HIDE.format(hidden=["larq"]) + "import os\nos.environ['TF_USE_LEGACY_KERAS'] = '1'\n"
        "import bireal_keras, tf_keras\nprint(tf_keras.layers.Dense.__name__)\n"
    )
    assert (status, out.strip()) == (0, "Dense"), err


class TestTopLevel:
    def test_lists_its_parts(self):
        for name in ("export", "runtime", "zoo", "__version__"):
            assert name in dir(bireal_keras)

    @pytest.mark.parametrize(
        ("name", "module"),
        [
            *((name, name) for name in ("cost", "export", "quantizers", "runtime", "zoo")),
            # They were called so when they lay at the top.
            *((name, f"training.{name}") for name in ("ablation", "data", "preprocessing")),
        ],
    )
    def test_parts_are_imported_on_first_use(self, name, module):
        assert getattr(bireal_keras, name) is importlib.import_module(f"bireal_keras.{module}")

    @pytest.mark.parametrize(
        ("package", "names"),
        [
            ("runtime", "Interpreter classify load_image read_metadata"),
            ("cost", "Cost of_model of_tflite"),
            ("export", "Report convert to_npz"),
            ("training", "Terminated train_and_evaluate"),
            ("zoo", "BiRealNet18 create_model"),
        ],
    )
    def test_a_package_shows_its_names_and_nothing_else(self, package, names):
        module = getattr(bireal_keras, package)
        assert set(names.split()) <= set(dir(module)) == set(module.__all__)
        for name in module.__all__:
            assert getattr(module, name) is not None
        with pytest.raises(AttributeError, match=f"'bireal_keras.{package}' has no .*'nonsense'"):
            _ = module.nonsense

    def test_listing_names_imports_nothing(self):
        status, out, err = python(
            "import bireal_keras\n"
            "from bireal_keras import cost, export, runtime, training\n"
            "for package in (bireal_keras, cost, export, runtime, training):\n"
            "    dir(package)\n"
            "import sys\n"
            "print({'tensorflow', 'PIL'} & set(sys.modules))\n"
        )
        assert (status, out) == (0, "set()"), err

    def test_unknown_attribute(self):
        with pytest.raises(AttributeError, match="'bireal_keras' has no attribute 'nonsense'"):
            _ = bireal_keras.nonsense


class TestInstallation:
    def test_version_stands_in_one_place(self, repository):
        assert metadata.version("bireal-keras") == bireal_keras.__version__
        for name in ("setup.py", "pyproject.toml", "Makefile", "BUILD"):
            assert bireal_keras.__version__ not in (repository / name).read_text(), name

    @pytest.mark.parametrize("source", ["checkout", "sdist"])
    def test_every_module_is_packaged(self, source, repository, tmp_path):
        """Also zoo/ and export/, which are links in a checkout and folders in an sdist."""

        def setup(folder, *arguments):
            command = [sys.executable, "setup.py", "--quiet", *arguments]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)

        folder = repository
        if source == "sdist":
            setup(repository, "sdist", "--dist-dir", tmp_path)
            name = f"bireal_keras-{bireal_keras.__version__}"
            shutil.unpack_archive(tmp_path / f"{name}.tar.gz", tmp_path)
            folder = tmp_path / name
        library = tmp_path / "library"
        setup(folder, "build_py", "--build-lib", library)
        installed = {str(path.relative_to(library)) for path in library.rglob("*.*")}
        expected = {"bireal_keras/py.typed", "bireal_keras/zoo/imagenet_classes.txt"}
        expected.add("bireal_keras/runtime/cifar10.tflite")
        for path in (repository / "bireal_keras/runtime/live/page").iterdir():
            expected.add(f"bireal_keras/runtime/live/page/{path.name}")
        # `rglob` would not follow the links to zoo/ and export/.
        for folder, _, names in os.walk(repository / "bireal_keras", followlinks=True):
            for name in names:
                if name.endswith(".py"):
                    expected.add(os.path.relpath(os.path.join(folder, name), repository))
        for path in (repository / "zoo/weights").iterdir():
            expected.add(f"bireal_keras/zoo/weights/{path.name}")
        assert len(expected) > 20
        assert installed == expected

    @pytest.mark.proof
    def test_a_users_type_checker_sees_the_zoo(self, tmp_path):
        """So it does in an editable install, of which tools see only what they find by its path."""
        script = tmp_path / "train.py"
        script.write_text(
            "from bireal_keras import export, zoo\n"
            'model = zoo.BiRealNet18(stemm="cifar")\n'
            'report = export.convert(model, "model.tflite")\n'
            "report.nonsense\n"
        )
        result = subprocess.run(
            [sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert 'Unexpected keyword argument "stemm" for "BiRealNet18"' in result.stdout
        assert '"Report" has no attribute "nonsense"' in result.stdout

    def test_device_install_is_light(self):
        """What `pip install bireal-keras` brings has no training in it."""
        names = {
            canonicalize_name(requirement.name)
            for requirement in map(Requirement, metadata.requires("bireal-keras"))
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        }
        assert names == {"absl-py", "ai-edge-litert", "numpy", "pillow"}


def wanted(extra, version):
    """Names of what an extra asks for, on this machine with another Python."""
    environment = {"extra": extra, "python_version": version}
    return {
        canonicalize_name(requirement.name)
        for requirement in map(Requirement, metadata.requires("bireal-keras"))
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }


def pins(path, environment):
    """{name: version} of a lock file's lines for an environment."""
    versions = {}
    for line in path.read_text().splitlines():
        if line.strip().startswith("#"):
            continue
        # It is nothing but a name, a version and a marker: no address, no path, no option.
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[a-z0-9.+!]+( ; .+)?", line), line
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in versions, f"{name} is pinned twice for {environment}"
            [specifier] = requirement.specifier
            versions[name] = specifier.version
    return versions


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize(
    "machine", [("linux", "Linux", "x86_64"), ("darwin", "Darwin", "arm64")], ids=str
)
def test_lock_file_satisfies_setup(repository, version, machine):
    environment = {
        **default_environment(),
        "python_version": version,
        "python_full_version": f"{version}.4",
        "extra": "dev",
        **dict(zip(("sys_platform", "platform_system", "platform_machine"), machine)),
    }
    locked = pins(repository / "requirements.lock", environment)
    wanted = [
        requirement
        for requirement in map(Requirement, metadata.requires("bireal-keras"))
        if requirement.marker is None or requirement.marker.evaluate(environment)
    ]
    assert {"tensorflow", "pytest", "numpy"} <= {requirement.name for requirement in wanted}
    for requirement in wanted:
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier, requirement


class TestCommands:
    def test_are_these(self):
        assert {script.name for script in SCRIPTS} == {
            "bireal",
            "bireal-train",
            "bireal-ablate",
            "bireal-export",
            "bireal-verify",
            "bireal-evaluate",
            "bireal-classify",
            "bireal-bench",
            "bireal-cost",
            "bireal-live",
        }

    @pytest.mark.slow
    @pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
    def test_help_is_complete(self, command):
        """Lists every flag of its module with a text, runs without any other argument."""
        executable = os.path.join(os.path.dirname(sys.executable), command.name)
        result = subprocess.run([executable, "--help"], capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stderr) == (0, "")
        usage, summary, *_ = result.stdout.split("\n\n")
        assert usage.startswith(f"Usage: {command.name} ")
        assert summary.endswith(".")

        status, flags, err = python(
            "from absl import flags\n"
            f"import {command.module}\n"
            f"for flag in flags.FLAGS.flags_by_module_dict()[{command.module!r}]:\n"
            "    print(flag.name, flag.boolean, bool(flag.help))\n"
        )
        assert status == 0, err
        assert flags
        for line in flags.splitlines():
            name, boolean, has_help = line.split()
            assert has_help == "True", name
            shown = f"--[no]{name}:" if boolean == "True" else f"--{name}:"
            assert f"  {shown} " in result.stdout, name
        assert "  --verbosity: " in result.stdout

    @pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
    def test_unknown_flag_is_one_line(self, command):
        executable = os.path.join(os.path.dirname(sys.executable), command.name)
        result = subprocess.run([executable, "--nonsense"], capture_output=True, text=True)
        assert (result.returncode, result.stdout) == (2, "")
        assert re.fullmatch(
            rf"{command.name}: .*'nonsense'.* See {command.name} --help\.\n", result.stderr
        )
