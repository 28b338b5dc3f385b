"""`minillm train`: a model from any UTF-8 text, trained so that nothing is ever lost.

The folder `--out` holds one checkpoint while training runs and the finished model afterwards.
Ctrl-C (or SIGTERM) stops after the step at hand with a checkpoint; `--resume` goes on from it and
ends where an uninterrupted run ends.
"""

import argparse
import hashlib
import json
import os
import platform
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from minillm.checkpoint import load, save, write_whole
from minillm.evaluation import evaluate
from minillm.model_card import model_card
from minillm.recipe import Recipe
from minillm.text_data import pack, read_texts, read_tokenizer, split_tail, train_tokenizer
from minillm.tokens import END_OF_TEXT
from minillm.trainer import Trainer, new_model
from minillm.training_state import read_state, restore, write_state
from minillm.transformer import Transformer

__all__ = ["add_arguments", "run"]
