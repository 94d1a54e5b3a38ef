"""A folder of clips to listen to: sound, picture, facts, and a page that shows them.

`write` does all of it; `pictures` and `page` serve on their own in training and in reports.
"""

from glissando.gallery.folder import write

__all__ = ["write"]
