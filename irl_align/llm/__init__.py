"""Language models: data, generation, reward models and policies."""
