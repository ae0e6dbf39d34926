"""Train the neural fingerprinter: the only importer of torch."""
