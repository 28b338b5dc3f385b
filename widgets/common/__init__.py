"""The explorer kit: film (data), player (widget), svg (static picture), theme, strings."""
