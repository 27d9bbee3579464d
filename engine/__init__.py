"""The inference engine that gets falsified: GGUF models, two execution paths, one set of traced stages."""
