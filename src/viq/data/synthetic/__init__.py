"""Pictures full of text with questions and answers, drawn from a seed."""
