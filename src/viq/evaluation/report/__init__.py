"""A page, or Markdown, of any number of evaluations side by side."""
