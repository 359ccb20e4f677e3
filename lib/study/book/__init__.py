"""The book: executed notebooks laid over the source tree and rendered."""
