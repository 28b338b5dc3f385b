"""A question to the reader before the cell that answers it, and the answer behind it."""

from widgets.common.predict.control import Predict, predict

__all__ = ["Predict", "predict"]
