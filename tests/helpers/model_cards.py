"""tools/model_cards.py as a module."""

import importlib.util
from pathlib import Path

_PATH = Path(__file__).parents[2] / "tools/model_cards.py"
_spec = importlib.util.spec_from_file_location("tools_model_cards", _PATH)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

FOLDER = _module.FOLDER
describe = _module.describe
measurements = _module.measurements
predictions = _module.predictions
