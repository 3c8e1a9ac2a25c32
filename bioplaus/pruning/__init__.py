"""Which synapses and neurons exist."""
