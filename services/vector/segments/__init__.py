"""Rows in files with graphs over them: what the serving process and the builder share."""
