"""What an extraction reads: one kind of source a file."""
