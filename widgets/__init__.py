"""The explorers of the course: a package for each lesson, in `common` the kit they share.

`notebooks` is no widget: it is the tool that re-executes lessons.
"""
