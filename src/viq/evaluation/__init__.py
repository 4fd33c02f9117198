"""What a tokenizer is worth, measured: one benchmark or table a file."""
