"""The commands of the shell: `minillm COMMAND` is `main`, and each command one module.

`lab` opens the lessons and `handout` copies them (both with `copies`), `notebooks` re-executes
them; `generate`, `models`, `eval` and `sample` use a model, `train` makes one; `bench` measures the
tricks; `formats` records what lesson 10 shows, `kbit` and `hypothesis` what lesson 12 does,
`findings` what lesson 15 does. They share `table`, `named_path` and `threads` (how OpenMP waits).
"""
