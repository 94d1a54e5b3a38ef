"""Everything between a shell and the package: argv, config folder, error lines.

Nothing here imports torch, so that ``--help`` and ``--cfg job`` answer at once.
"""
