"""What `minillm train` is made of: the recipe, the text, the step, the checkpoint, the result."""

__all__: list[str] = []
