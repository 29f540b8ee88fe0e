"""From a config to a program and its regions: transformers' own code, traced without data and cut into pieces."""
