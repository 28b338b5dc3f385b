"""GGUF, llama.cpp's file of a whole model: shape, tokenizer and weights, read into ours.

To read in this order: `file` (metadata, and where tensors lie), `blocks` (a few bits and a scale to
float32), `names` (its shape and names to Hugging Face's), `tokenizer`.
"""

from minillm.checkpoint.gguf.file import GGUF, read_gguf
from minillm.checkpoint.gguf.names import config_fields, hugging_face_tensors
from minillm.checkpoint.gguf.tokenizer import read_tokenizer, special_tokens

__all__ = [
    "GGUF",
    "config_fields",
    "hugging_face_tensors",
    "read_gguf",
    "read_tokenizer",
    "special_tokens",
]
