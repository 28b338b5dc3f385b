"""Weights on disk: Hugging Face folders of safetensors, and GGUF files.

To read in this order: `loading` (a folder or a file to a model, and back), `names` (theirs and
ours), `tensors` (files and shards), `gguf`, `published` and `hub` (models to download), `chat`.
"""

from minillm.checkpoint.loading import (
    Checkpoint,
    folder,
    load,
    opened,
    read_tokenizer,
    save,
    shipped,
)

__all__ = ["Checkpoint", "folder", "load", "opened", "read_tokenizer", "save", "shipped"]
