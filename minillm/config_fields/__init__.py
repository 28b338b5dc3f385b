"""The fields of a Hugging Face `config.json`, as transformers 5 reads them.

A field that changes the result is obeyed or refused by name; one that changes nothing is neither.
What is absent has the default of its model type.

To read in this order: `checked` (a value of a kind), `rope` (positions), `gemma` (where Gemma's
fields differ from Llama's), `arguments` (all of a config).
"""

from minillm.config_fields.checked import checked

__all__ = ["checked"]
