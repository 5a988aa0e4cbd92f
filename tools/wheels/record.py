"""Records what this machine answers, for the wheels on other machines to repeat.

Usage: record.py RECORDED FOLDER. RECORDED is what tools/aarch64/record_birealnet18.py wrote: a
small Bi-Real-18, its binary part and its float file. FOLDER receives those, a photo and, as
classes.txt, what bireal-classify says of it, and, as packed.tflite, what bireal-export makes of the
float file.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import sklearn.datasets

# It is a temple, 640x427, which scikit-learn brings.
PHOTO = Path(sklearn.datasets.__file__).parent / "images/china.jpg"


def main(recorded: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("network", "binary_part", "float"):
        shutil.copy(recorded / f"{name}.tflite", folder)
    for name in ("network", "binary_part"):
        shutil.copy(recorded / f"{name}.npz", folder)
    shutil.copy(PHOTO, folder / "photo.jpg")

    def run(name: str, *arguments: str) -> bytes:
        command = [Path(sys.executable).with_name(name), *arguments]
        return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE).stdout

    (folder / "classes.txt").write_bytes(run("bireal-classify", "network.tflite", "photo.jpg"))
    run("bireal-export", "--model=float.tflite", "--output=packed.tflite")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
