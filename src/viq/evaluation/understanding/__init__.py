"""What a language model understands of pictures: benchmarks, tasks without downloads, probes."""
