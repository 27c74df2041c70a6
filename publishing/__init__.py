"""Print the book: run the snippet modules, keep what they measured, and put it on the pages.

Nothing in this package knows about MkDocs except `hooks`, which only calls the rest.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The repository."""


class PublishingError(Exception):
    """Something in the book is wrong; the message says where and what to do."""
