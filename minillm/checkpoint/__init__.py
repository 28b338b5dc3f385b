"""Weights on disk: Hugging Face folders of safetensors, nothing else.

To read in this order: `loading` (a folder to a model, and back), `names` (theirs and ours),
`tensors` (files and shards).
"""

from minillm.checkpoint.loading import folder, load, read_tokenizer, save, shipped

__all__ = ["folder", "load", "read_tokenizer", "save", "shipped"]
