"""Records what this machine answers, for the wheels on other machines to repeat.

Usage: record.py RECORDED FOLDER. RECORDED is what tools/aarch64/record_birealnet18.py wrote: a
small Bi-Real-18 and its binary part. FOLDER receives those, a photo and, as classes.txt, what
bireal-classify says of it.
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
    for source in (recorded / "network.tflite", recorded / "binary_part.tflite"):
        shutil.copy(source, folder)
    shutil.copy(recorded / "binary_part.npz", folder)
    shutil.copy(PHOTO, folder / "photo.jpg")
    classify = Path(sys.executable).with_name("bireal-classify")
    answer = subprocess.run(
        [classify, "network.tflite", "photo.jpg"], cwd=folder, check=True, stdout=subprocess.PIPE
    )
    (folder / "classes.txt").write_bytes(answer.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
