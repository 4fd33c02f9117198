"""What comes back of pictures through tokenizers, codecs and others, and at what rate."""
