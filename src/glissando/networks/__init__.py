"""Functions of tensors: they know neither noise schedule nor files."""
