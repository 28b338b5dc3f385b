"""No widget: the tool that re-executes lessons, and refuses what another machine would not repeat.

`execute` runs and audits, `file` judges a notebook as it lies there, `elsewhere` imitates another
machine inside a kernel, `memory` asks what it holds, `quiet` whether the machine is busy, `cost`
what a lesson takes of a shared one, `numbers` where the prose has its numbers from. It stands here
since `minillm` knows no Jupyter.
"""
