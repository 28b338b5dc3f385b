"""No widget: the tool that re-executes lessons, and refuses what another machine would not repeat.

`execute` runs and audits, `file` judges a notebook as it lies there, `elsewhere` imitates another
machine inside a kernel, `memory` asks for its peak. It stands here since `minillm` knows no
Jupyter.
"""
