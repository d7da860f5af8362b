"""The explorer's pages, one module each."""
