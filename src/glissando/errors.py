"""The one exception that is a message to the user and not a defect of the program."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right; the text is one line that names the flag which does.

    Command lines print it without a stack (see ``glissando.cli``) and exit with status 1;
    ``GLISSANDO_DEBUG=1`` shows the stack.
    """
